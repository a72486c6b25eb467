#include "journal_history.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <future>
#include <stdexcept>

#include "os/fd.h"

namespace afterimage {
namespace {

/// Half of the payloads compress, some are of one byte, the others are noise.
Bytes payload_of(Random& random, uint64_t length) {
  const uint64_t kind = random() % 4;
  if (kind == 2) return Bytes(length, static_cast<std::byte>(random()));
  return random_bytes(random, length, kind < 2 ? 0x1111'1111'1111'1111 : UINT64_MAX);
}

/// For histories that are only read: no test of theirs ends in a power cut.
class UnsyncedFile final : public JournalFile {
  Errno fdatasync(int) override { return 0; }
  Errno fsync(int) override { return 0; }
};

uint32_t random_length(Random& random, uint32_t length_max) {
  const uint32_t most = random() % 16 == 0 ? length_max : random() % 3 == 0 ? 128u << 10 : 16u << 10;
  return static_cast<uint32_t>(1 + random() % (std::min(most, length_max) / 512)) * 512;
}

}  // namespace

Bytes random_bytes(Random& random, uint64_t length, uint64_t mask) {
  std::vector<uint64_t> words((length + 7) / 8);
  for (uint64_t& word : words) word = random() & mask;
  Bytes bytes(length);
  if (length > 0) std::memcpy(bytes.data(), words.data(), length);
  return bytes;
}

int64_t first_difference(const Bytes& a, const Bytes& b, uint64_t length) {
  if (std::memcmp(a.data(), b.data(), length) == 0) return -1;
  return std::mismatch(a.begin(), a.begin() + static_cast<int64_t>(length), b.begin()).first - a.begin();
}

const SegmentVolume& JournalHistory::volume(uint16_t number) const {
  for (const SegmentVolume& volume : generations.front().volumes)
    if (volume.number == number) return volume;
  throw std::runtime_error("no such volume");
}

JournalHistory::JournalHistory(const Options& options) {
  Random random(options.seed);
  std::map<uint16_t, uint64_t> sizes = {{3, 4u << 20}, {60, image_bytes(60)}};
  uint64_t lsn = 1, time_ns = 1'700'000'000'000'000'000;
  for (uint32_t g = 1; g <= options.generations; ++g) {
    HistoryGeneration generation{
        .epoch = 10 + g, .generation = g, .first_lsn = lsn, .volumes = {}, .frames = {}};
    for (const auto& [number, size] : sizes)
      generation.volumes.push_back({.number = number,
                                    .reserved = 0,
                                    .block_size = 512,
                                    .uuid = {9, static_cast<uint8_t>(number)},
                                    .size = size});
    FrameBuilder builder({group, member, generation.epoch, generation.generation});
    HistoryFrame frame;
    uint64_t raw_left = 0, raw_total = 0;
    uint32_t link = 0;
    const auto seal = [&] {
      frame.header = builder.finish();
      link = frame.header.header_crc32c;
      frame.words.resize(frame.header.frame_bytes / 8);
      generation.frames.push_back(std::move(frame));
      frame = {};
    };
    while (raw_total < options.generation_bytes) {
      HistoryStep step{.lsn = lsn, .record = {}, .payload = {}};
      FrameBuilder::Record& record = step.record;
      auto chosen = sizes.begin();
      if (random() % 3 == 0) ++chosen;
      record.volume = chosen->first;
      record.time_ns = time_ns += 1 + random() % 1'000'000;
      const uint64_t dice = random() % 100;
      if (dice < 75) {
        record.kind = RecordKind::kWrite;
      } else if (dice < 90) {
        record.kind = RecordKind::kZero;
        record.flags = random() % 2 == 0 ? kRecordTrim : 0;
      } else if (dice < 96) {
        record.kind = RecordKind::kFlush;
      } else if (dice < 98) {
        record.kind = RecordKind::kVoid;
        record.volume = 0;
      } else if (options.resizes && record.volume == 3) {
        record.kind = RecordKind::kResize;
        chosen->second = (1u << 20) + random() % 8192 * 512;  // at most image_bytes(3)
        record.offset = chosen->second;
      } else {
        record.kind = RecordKind::kFlush;
      }
      if (record.kind == RecordKind::kWrite || record.kind == RecordKind::kZero) {
        record.length = random_length(random, std::min<uint32_t>(options.record_bytes_max, 1u << 20));
        const uint64_t sectors = (chosen->second - record.length) / 512;
        record.offset = random() % (sectors + 1) * 512;
        if (random() % 2 == 0) record.offset = record.offset / 4096 * 4096;
      }
      if (record.kind == RecordKind::kWrite) step.payload = payload_of(random, record.length);

      if (frame.words.empty() || builder.raw_bytes() >= raw_left ||
          !builder.add(record, step.payload.data())) {
        if (!frame.words.empty()) seal();
        frame.words.resize(kFrameBytesMax / 8);
        raw_left = 1 + random() % options.frame_raw_bytes;
        builder.begin(frame.data(), lsn, 1, link);
        builder.add(record, step.payload.data());
      }
      raw_total += step.payload.size();
      steps.push_back(std::move(step));
      ++lsn;
    }
    seal();
    lsn += 1000;  // a generation goes on above the ceiling of the one before
    generations.push_back(std::move(generation));
  }
}

void JournalHistory::apply(const HistoryStep& step, uint16_t volume, Bytes* image, uint64_t* size) const {
  const FrameBuilder::Record& record = step.record;
  if (record.volume != volume) return;
  switch (record.kind) {
    case RecordKind::kWrite:
      std::memcpy(image->data() + record.offset, step.payload.data(), record.length);
      break;
    case RecordKind::kZero:
      std::memset(image->data() + record.offset, 0, record.length);
      break;
    case RecordKind::kResize:
      *size = record.offset;
      std::memset(image->data() + record.offset, 0, image->size() - record.offset);
      break;
    default:
      break;
  }
}

HistoryFrame make_frame(const FrameBuilder::Stream& stream, uint64_t first_lsn, uint32_t link,
                        const std::vector<FrameBuilder::Record>& records, Random& random, uint32_t era) {
  HistoryFrame frame;
  frame.words.resize(kFrameBytesMax / 8);
  FrameBuilder builder(stream);
  builder.begin(frame.data(), first_lsn, era, link);
  for (const FrameBuilder::Record& record : records) {
    const Bytes payload = random_bytes(random, record.kind == RecordKind::kWrite ? record.length : 0);
    if (!builder.add(record, payload.data())) throw std::runtime_error("the frame is full");
  }
  frame.header = builder.finish();
  frame.words.resize(frame.header.frame_bytes / 8);
  return frame;
}

void WrittenJournal::note(const std::vector<SegmentInfo>& changed) {
  for (const SegmentInfo& segment : changed) segments[segment.first_lsn] = segment;
}

WrittenJournal write_journal(const JournalHistory& history, const std::string& directory) {
  UnsyncedFile file;
  const auto writer = JournalWriter::open({.directory = directory,
                                           .group = history.group,
                                           .member = history.member,
                                           .segment_bytes = kSegmentBytesMin,
                                           .file = &file},
                                          {}, nullptr);
  if (!writer.ok()) throw std::runtime_error(writer.error().message);
  WrittenJournal journal;
  using Answer = Result<JournalWriter::Appended>;
  const auto wait = [&](auto call) {
    std::promise<Answer> promise;
    call([&](Answer answer) { promise.set_value(std::move(answer)); });
    const Answer answer = promise.get_future().get();
    if (!answer.ok()) throw std::runtime_error(answer.error().message);
    journal.note(answer->changed);
  };
  for (const HistoryGeneration& generation : history.generations) {
    wait([&](auto done) {
      (*writer)->begin_generation(generation.epoch, generation.generation, generation.first_lsn,
                                  generation.volumes, done);
    });
    for (const HistoryFrame& frame : generation.frames)
      wait([&](auto done) { (*writer)->append(frame.data(), frame.bytes(), done); });
  }
  return journal;
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + path);
  Bytes bytes(static_cast<uint64_t>(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw std::runtime_error("cannot read " + path);
  return bytes;
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  // In place: a file system that sees a file truncated and written again makes it durable at once, which
  // takes long.
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      ::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) != 0)
    throw std::runtime_error("cannot write " + path);
}

}  // namespace afterimage
