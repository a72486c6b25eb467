// Structured-random mutation of segment and run files: what a disk may bring. Scanning, indexing, opening and
// reading must neither crash nor read out of bounds (run it under ASan). Half of the mutants have their CRCs
// made right again, so that the checks behind them are reached; of the others every read that succeeds must
// show what was written.
//   fuzz-segment [--seed N] [--seconds S]
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <random>
#include <string>
#include <vector>

#include "device/point_in_time_device.h"
#include "fuzz/fuzz_run.h"
#include "journal/journal_writer.h"
#include "journal/run.h"
#include "os/crc32c.h"

using namespace afterimage;

namespace {

using Random = std::mt19937_64;
using Bytes = std::vector<std::byte>;

constexpr uint64_t kVolumeBytes = 256u << 10;
constexpr uint16_t kVolume = 5;

uint64_t interesting(Random& random) {
  constexpr uint64_t kValues[] = {0,          1,
                                  2,          7,
                                  8,          63,
                                  64,         255,
                                  256,        511,
                                  512,        4095,
                                  4096,       4097,
                                  0x7fffff,   0xffffff,
                                  0x7fffffff, 0x80000000,
                                  1u << 18,   1u << 20,
                                  64u << 20,  1ull << 40,
                                  1ull << 49, 1ull << 63,
                                  UINT64_MAX, UINT64_MAX - 4095};
  return kValues[random() % std::size(kValues)];
}

/// Anything in the file, but mostly where one of `spots` begins.
void mutate(Bytes* file, const std::vector<uint64_t>& spots, Random& random) {
  for (uint64_t n = 1 + random() % 4; n > 0; --n) {
    uint64_t at =
        random() % 4 == 0 ? random() % file->size() : spots[random() % spots.size()] + random() % 200;
    at = std::min(at, file->size() - 1);
    const uint64_t width = std::min<uint64_t>(1ull << random() % 4, file->size() - at);
    uint64_t value = 0;
    std::memcpy(&value, file->data() + at, width);
    switch (random() % 4) {
      case 0:
        value ^= 1ull << random() % (8 * width);
        break;
      case 1:
        value = random();
        break;
      case 2:
        value = interesting(random);
        break;
      default:
        value += random() % 1025 - 512;
    }
    std::memcpy(file->data() + at, &value, width);
  }
  if (random() % 16 == 0) file->resize(random() % (file->size() + 1));
  if (random() % 16 == 0) file->resize(file->size() + random() % 5000, static_cast<std::byte>(random()));
}

template <typename T>
void crc_into(std::byte* structure, size_t crc_offset, const T* from, uint64_t bytes) {
  const uint32_t crc = crc32c(from, bytes);
  std::memcpy(structure + crc_offset, &crc, sizeof crc);
}

/// Makes the CRCs of a segment right: of its header, and of frames for as long as their lengths make sense.
void seal_segment(Bytes* file, Random& random) {
  if (file->size() < kSegmentHeaderBytes) return;
  crc_into(file->data(), offsetof(SegmentHeader, header_crc32c), file->data(),
           offsetof(SegmentHeader, header_crc32c));
  uint32_t link = 0;
  for (uint64_t at = kSegmentHeaderBytes; at + sizeof(FrameHeader) <= file->size();) {
    std::byte* frame = file->data() + at;
    FrameHeader header;
    std::memcpy(&header, frame, sizeof header);
    const uint64_t left = file->size() - at;
    const uint64_t tables = uint64_t{header.record_count} * sizeof(RecordEntry) +
                            uint64_t{header.chunk_count} * sizeof(ChunkEntry);
    if (random() % 8 != 0) {
      header.last_lsn = header.first_lsn + header.record_count - 1;
      if (at != kSegmentHeaderBytes) header.link = link;
    }
    if (sizeof header + tables <= left) header.tables_crc32c = crc32c(frame + sizeof header, tables);
    header.header_crc32c = crc32c(&header, offsetof(FrameHeader, header_crc32c));
    std::memcpy(frame, &header, sizeof header);
    link = header.header_crc32c;
    if (header.frame_bytes < sizeof header || header.frame_bytes > left) return;
    at += header.frame_bytes;
  }
}

void seal_run(Bytes* file) {
  RunHeader header;
  if (file->size() < sizeof header) return;
  std::memcpy(&header, file->data(), sizeof header);
  const uint64_t fence = sizeof header + uint64_t{header.segment_count} * sizeof(RunSegment) +
                         uint64_t{header.volume_count} * sizeof(RunVolume);
  const uint64_t end = fence + (header.page_count & 0xffffffff) * sizeof(RunFence);
  if (end <= file->size()) {
    for (uint64_t page = 0; page < header.page_count; ++page) {
      const uint64_t at = header.pages_offset + page * kRunPageBytes;
      if (at > file->size() || file->size() - at < kRunPageBytes) break;
      crc_into(file->data(), fence + page * sizeof(RunFence) + offsetof(RunFence, crc32c), file->data() + at,
               kRunPageBytes);
    }
    header.tables_crc32c = crc32c(file->data() + sizeof header, end - sizeof header);
  }
  header.header_crc32c = crc32c(&header, offsetof(RunHeader, header_crc32c));
  std::memcpy(file->data(), &header, sizeof header);
}

Bytes read_file(const std::string& path) {
  Bytes bytes(std::filesystem::file_size(path));
  const Fd fd(::open(path.c_str(), O_RDONLY));
  if (::read(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  return bytes;
}

void write_file(const std::string& path, const Bytes& bytes) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT, 0600));  // in place: truncating first makes ext4 sync
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) != 0) std::abort();
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
}

/// A sealed segment with its run, the content that they stand for, and the places worth mutating.
struct Sample {
  std::string directory;
  SegmentInfo info;
  Bytes segment, run, content;
  std::vector<uint64_t> frames{0, 64, kSegmentHeaderBytes};

  explicit Sample(Random& random) {
    std::string pattern = (std::filesystem::temp_directory_path() / "afterimage-fuzz-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    directory = pattern;
    write_file(directory + "/base", {});
    content.resize(kVolumeBytes);
    auto writer =
        JournalWriter::open({.directory = directory, .segment_bytes = kSegmentBytesMin}, {}, nullptr);
    const auto wait = [&](auto call) {
      std::promise<void> promise;
      call([&](const Result<JournalWriter::Appended>& answer) {
        if (!answer.ok()) std::abort();
        for (const SegmentInfo& changed : answer->changed) info = changed;
        promise.set_value();
      });
      promise.get_future().wait();
    };
    const SegmentVolume volume{
        .number = kVolume, .reserved = 0, .block_size = 512, .uuid = {}, .size = kVolumeBytes};
    wait([&](auto done) { (*writer)->begin_generation(1, 1, 1, {volume}, done); });
    FrameBuilder builder({{}, {}, 1, 1});
    std::vector<uint64_t> buffer(kFrameBytesMax / 8);
    auto* frame = reinterpret_cast<std::byte*>(buffer.data());
    uint64_t lsn = 1, position = kSegmentHeaderBytes;
    uint32_t link = 0;
    for (int n = 0; n < 8; ++n) {
      builder.begin(frame, lsn, 1, link);
      for (uint64_t records = 1 + random() % 60; records > 0; --records, ++lsn) add(&builder, lsn, random);
      const FrameHeader header = builder.finish();
      link = header.header_crc32c;
      wait([&](auto done) { (*writer)->append(frame, header.frame_bytes, done); });
      position += header.frame_bytes;
      frames.push_back(position);
    }
    writer->reset();
    std::filesystem::resize_file(info.path, info.bytes);
    info.sealed = true;
    segment = read_file(info.path);
    if (!build_run(info, directory + "/original.run").ok()) std::abort();
    run = read_file(directory + "/original.run");
  }
  ~Sample() { std::filesystem::remove_all(directory); }

 private:
  void add(FrameBuilder* builder, uint64_t lsn, Random& random) {
    FrameBuilder::Record record{.kind = RecordKind::kWrite, .volume = kVolume, .time_ns = 1000 * lsn};
    if (random() % 4 == 0) record.kind = RecordKind::kZero;
    record.length = static_cast<uint32_t>(1 + random() % 8) * 512;
    record.offset = random() % ((kVolumeBytes - record.length) / 512 + 1) * 512;
    Bytes payload(record.length);
    if (record.kind == RecordKind::kWrite)
      for (std::byte& byte : payload) byte = static_cast<std::byte>(random() % 4);
    builder->add(record, payload.data());
    std::copy(payload.begin(), payload.end(), content.begin() + static_cast<int64_t>(record.offset));
  }
};

struct Tally {
  uint64_t mutants = 0, opened = 0, reads = 0, compared = 0, refused_reads = 0, scanned = 0, built = 0,
           segment_headers = 0, run_headers = 0, runs = 0;
};

/// Opens the point and reads at random; aborts on content that was never written.
void read_point(const Sample& sample, const SegmentInfo& info, const std::string& run_path, uint64_t lsn,
                bool is_honest, Random& random, Tally* tally) {
  const auto device = PointInTimeDevice::open({.base_path = sample.directory + "/base",
                                               .size = kVolumeBytes,
                                               .block_size = 512,
                                               .volume = kVolume,
                                               .lsn = lsn,
                                               .tiles = {{info, run_path}}});
  if (!device.ok()) return;
  ++tally->opened;
  for (int i = 0; i < 20; ++i) {
    const uint64_t offset = random() % kVolumeBytes;
    Bytes piece(1 + random() % std::min<uint64_t>(kVolumeBytes - offset, 20000));  // ASan sees one byte more
    const Errno error = (*device)->read(offset, piece.size(), piece.data());
    ++(error == 0 ? tally->reads : tally->refused_reads);
    if (error != 0 || !is_honest) continue;
    ++tally->compared;
    if (std::memcmp(piece.data(), sample.content.data() + offset, piece.size()) != 0) {
      std::fprintf(stderr, "finding: a read at %llu shows what was never written\n",
                   static_cast<unsigned long long>(offset));
      std::abort();
    }
  }
  std::vector<AllocationExtent> extents;
  (void)(*device)->allocation(0, kVolumeBytes, &extents);
}

bool differs(const Bytes& altered, const Bytes& original, size_t bytes) {
  return std::memcmp(altered.data(), original.data(), std::min({bytes, altered.size(), original.size()})) !=
         0;
}

void try_segment(const Sample& sample, Random& random, Tally* tally) {
  Bytes altered = sample.segment;
  mutate(&altered, sample.frames, random);
  const bool is_sealed = random() % 2 == 0;
  if (is_sealed) seal_segment(&altered, random);
  SegmentInfo info = sample.info;
  info.path = sample.directory + "/altered.seg";
  write_file(info.path, altered);
  const std::string run_path = sample.directory + "/original.run";
  read_point(sample, info, run_path, info.last_lsn, !is_sealed, random, tally);
  read_point(sample, info, "", info.last_lsn, !is_sealed, random, tally);
  const auto scan = scan_segment(info.path, random() % 2 == 0);
  if (!scan.ok()) return;
  (void)lsn_at_time(scan->info, random() % 200000);
  (void)time_at_lsn(scan->info, 1 + random() % 100);
  if (scan->info.frames == 0) return;
  ++tally->scanned;
  tally->segment_headers += differs(altered, sample.segment, kSegmentHeaderBytes);
  const std::string own_run = sample.directory + "/altered.run";
  if (build_run(scan->info, own_run).ok()) {
    ++tally->built;
    read_point(sample, scan->info, own_run, scan->info.last_lsn, false, random, tally);
  }
  const uint64_t middle = scan->info.first_lsn + random() % scan->info.records;
  read_point(sample, scan->info, "", middle, false, random, tally);
}

void try_run(const Sample& sample, Random& random, Tally* tally) {
  RunHeader header;
  std::memcpy(&header, sample.run.data(), sizeof header);
  Bytes altered = sample.run;
  mutate(&altered,
         {0, 64, sizeof header, sizeof header + 40, header.pages_offset, header.pages_offset + 2000}, random);
  const bool is_sealed = random() % 2 == 0;
  if (is_sealed) seal_run(&altered);
  const std::string path = sample.directory + "/altered.run";
  write_file(path, altered);
  // Even a run that lies with right CRCs cannot make the frames say what they do not: but it can hide newer
  // ones.
  read_point(sample, sample.info, path, sample.info.last_lsn, !is_sealed, random, tally);
  const auto run = Run::open(path);
  if (!run.ok()) return;
  ++tally->runs;
  tally->run_headers += differs(altered, sample.run, sizeof header);
  std::vector<RunEntry> entries;
  (void)(*run)->lookup(kVolume, 0, kSectorsMax, &entries);
  (void)(*run)->lookup(static_cast<uint16_t>(random()), interesting(random), interesting(random), &entries);
}

}  // namespace

int main(int argc, char** argv) {
  test::FuzzRun run("segment", argc, argv);
  Random random(run.seed());
  const Sample sample(random);
  Tally tally;
  for (; !run.is_over(); ++tally.mutants) {
    if (random() % 2 == 0)
      try_segment(sample, random, &tally);
    else
      try_run(sample, random, &tally);
  }
  std::printf("fuzz segment: %llu mutants, no finding\n", static_cast<unsigned long long>(tally.mutants));
  run.expect("points opened", tally.opened, tally.mutants, 4);
  run.expect("reads served", tally.reads, tally.mutants, 1);
  run.expect("reads of honest files compared", tally.compared, tally.mutants, 4);
  run.expect("reads refused", tally.refused_reads, tally.mutants, 20);
  run.expect("altered segments with frames left", tally.scanned, tally.mutants, 20);
  run.expect("runs built of them", tally.built, tally.mutants, 20);
  run.expect("altered runs opened", tally.runs, tally.mutants, 50);
  // Behind a checksum that was made right again.
  run.expect("segments read with an altered header", tally.segment_headers, tally.mutants, 200);
  run.expect("runs opened with an altered header", tally.run_headers, tally.mutants, 200);
  return run.exit_status();
}
