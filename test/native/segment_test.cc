#include "journal/segment.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>

#include "journal_history.h"
#include "os/crc32c.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

/// A journal of one sealed segment of small frames, and where each frame lies in it.
struct SmallSegment {
  ScratchDirectory directory;
  JournalHistory history{{.seed = 3,
                          .generations = 2,
                          .generation_bytes = 40u << 10,
                          .record_bytes_max = 2048,
                          .frame_raw_bytes = 6u << 10}};
  SegmentInfo info;
  Bytes bytes;
  std::vector<uint64_t> offsets;  // of the frames, then of the end

  SmallSegment() {
    const WrittenJournal journal = write_journal(history, directory.path("."));
    info = journal.segments.begin()->second;
    bytes = read_file(info.path);
    uint64_t at = kSegmentHeaderBytes;
    for (const HistoryFrame& frame : history.generations.front().frames) {
      offsets.push_back(at);
      at += frame.bytes();
    }
    offsets.push_back(at);
    REQUIRE(info.sealed);
    REQUIRE(bytes.size() == at);
    REQUIRE(offsets.size() > 6);
  }
  Result<SegmentScan> scan(const Bytes& altered) const {
    const std::string path = directory.path("altered.seg");
    write_file(path, altered);
    return scan_segment(path, true);
  }
  const HistoryFrame& frame(size_t index) const { return history.generations.front().frames[index]; }
  uint64_t last_lsn(size_t frames) const { return frames == 0 ? 0 : frame(frames - 1).header.last_lsn; }
  void check_prefix(const SegmentScan& scan, size_t frames) const {
    CHECK(scan.info.frames == frames);
    CHECK(scan.info.bytes == offsets[frames]);
    CHECK(scan.info.last_lsn == last_lsn(frames));
    CHECK(scan.info.link == (frames == 0 ? 0 : frame(frames - 1).header.header_crc32c));
    CHECK(scan.stop_offset == offsets[frames]);
  }
};

void reseal(Bytes* bytes) {
  const uint32_t crc = crc32c(bytes->data(), offsetof(SegmentHeader, header_crc32c));
  std::memcpy(bytes->data() + offsetof(SegmentHeader, header_crc32c), &crc, sizeof crc);
}

}  // namespace

TEST_CASE("a sealed segment is what was appended, byte for byte") {
  const SmallSegment segment;
  const auto scan = scan_segment(segment.info.path, true);
  REQUIRE(scan.ok());
  segment.check_prefix(*scan, segment.offsets.size() - 1);
  CHECK(scan->stop_reason == "");
  CHECK(scan->info.sealed);
  CHECK(scan->group == segment.history.group);
  CHECK(scan->member == segment.history.member);
  CHECK(scan->info.records == scan->info.last_lsn - scan->info.first_lsn + 1);
  CHECK(scan->info.raw_bytes == segment.info.raw_bytes);
  CHECK(scan->info.first_time_ns == segment.history.steps.front().record.time_ns);
  for (size_t i = 0; i + 1 < segment.offsets.size(); ++i)
    CHECK(std::memcmp(segment.bytes.data() + segment.offsets[i], segment.frame(i).data(),
                      segment.frame(i).bytes()) == 0);
  uint64_t size = segment.history.volume(3).size;
  Bytes image(segment.history.image_bytes(3));
  for (const HistoryStep& step : segment.history.steps)
    if (step.lsn <= scan->info.last_lsn) segment.history.apply(step, 3, &image, &size);
  REQUIRE(scan->volumes.size() == 2);
  CHECK(scan->volumes[0].size == size);
  CHECK(scan->volumes[1].size == segment.history.volume(60).size);
}

TEST_CASE("a file cut at any byte of its last frames is the frames before the cut") {
  const SmallSegment segment;
  const size_t frames = segment.offsets.size() - 1;
  const std::string path = segment.directory.path("cut.seg");
  write_file(path, segment.bytes);
  for (uint64_t cut = segment.bytes.size() - 1; cut >= segment.offsets[frames - 2];
       cut -= kIsSampled ? 97 : 1) {
    std::filesystem::resize_file(path, cut);
    const auto scan = scan_segment(path, true);
    REQUIRE(scan.ok());
    const size_t whole = cut < segment.offsets[frames - 1] ? frames - 2 : frames - 1;
    segment.check_prefix(*scan, whole);
    const bool is_whole = cut == segment.offsets[whole];
    CHECK((scan->stop_reason == "") == is_whole);
    CHECK(scan->info.sealed == is_whole);
  }
}

TEST_CASE("bytes behind the last frame are no part of the segment") {
  const SmallSegment segment;
  const size_t frames = segment.offsets.size() - 1;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    // Cut anywhere in the last frame, then garbage, or zeroes as in space that was never written, or frames
    // of the past.
    const uint64_t cut = segment.offsets[frames - 1] + random() % segment.frame(frames - 1).bytes();
    Bytes altered(segment.bytes.begin(), segment.bytes.begin() + static_cast<int64_t>(cut));
    const uint64_t kind = random() % 3;
    const Bytes garbage = random_bytes(random, 1 + random() % 5000);
    const HistoryFrame& old = segment.frame(random() % (frames - 1));
    if (kind == 0) altered.insert(altered.end(), garbage.begin(), garbage.end());
    if (kind == 1) altered.resize(altered.size() + 10000);
    if (kind == 2) altered.insert(altered.end(), old.data(), old.data() + old.bytes());
    const auto scan = segment.scan(altered);
    REQUIRE(scan.ok());
    segment.check_prefix(*scan, frames - 1);
    CHECK_FALSE(scan->info.sealed);
  }
  Bytes preallocated = segment.bytes;
  preallocated.resize(preallocated.size() + 8);
  const auto scan = segment.scan(preallocated);
  REQUIRE(scan.ok());
  segment.check_prefix(*scan, frames);
  CHECK(scan->stop_reason == "");
  CHECK_FALSE(scan->info.sealed);
}

TEST_CASE("a bit that flips in a frame ends the segment before that frame") {
  const SmallSegment segment;
  Random random(7);
  const size_t frames = segment.offsets.size() - 1;
  for (int round = 0; round < 600; ++round) {
    const size_t hit = random() % frames;
    // Half of the flips hit the header, which is small.
    const uint64_t within = random() % (random() % 2 == 0 ? sizeof(FrameHeader) : segment.frame(hit).bytes());
    Bytes altered = segment.bytes;
    altered[segment.offsets[hit] + within] ^= std::byte{1} << random() % 8;
    INFO("frame " << hit << " byte " << within);
    const auto scan = segment.scan(altered);
    REQUIRE(scan.ok());
    segment.check_prefix(*scan, hit);
    CHECK(scan->stop_reason != "");
    CHECK_FALSE(scan->info.sealed);
  }
}

TEST_CASE("a frame that a newer program wrote is no end: the segment is refused by name") {
  // As an end it would be cut off as a torn tail, or graded as damage.
  const SmallSegment segment;
  Bytes newer = segment.bytes;
  std::byte* const frame = newer.data() + segment.offsets[2];
  frame[offsetof(FrameHeader, version)] = std::byte{2};
  const uint32_t crc = crc32c(frame, offsetof(FrameHeader, header_crc32c));
  std::memcpy(frame + offsetof(FrameHeader, header_crc32c), &crc, sizeof crc);
  const auto scan = segment.scan(newer);
  REQUIRE_FALSE(scan.ok());
  CHECK(std::string(scan.error().code) == "SEGMENT_VERSION");
  // Its header torn by a power loss, after the magic: an end like any other.
  std::fill(frame + sizeof(FrameHeader::magic), frame + sizeof(FrameHeader), std::byte{0});
  const auto torn = segment.scan(newer);
  REQUIRE(torn.ok());
  segment.check_prefix(*torn, 2);
}

TEST_CASE("a frame out of its place ends the segment there, though it is whole") {
  const SmallSegment segment;
  const auto assemble = [&](const std::vector<size_t>& order) {
    Bytes altered(segment.bytes.begin(), segment.bytes.begin() + kSegmentHeaderBytes);
    for (const size_t index : order)
      altered.insert(altered.end(), segment.frame(index).data(),
                     segment.frame(index).data() + segment.frame(index).bytes());
    return altered;
  };
  const auto check = [&](const std::vector<size_t>& order, size_t frames, const char* reason) {
    const auto scan = segment.scan(assemble(order));
    REQUIRE(scan.ok());
    CHECK(scan->info.frames == frames);
    CHECK(scan->stop_reason.starts_with(reason));
  };
  check({0, 1, 3}, 2, "FRAME_GAP");
  check({0, 2, 1}, 1, "FRAME_GAP");
  check({0, 1, 1}, 2, "FRAME_REPEATED");
  check({1}, 0, "FRAME_GAP");

  // The right number and generation, but of another history: only the link tells.
  const HistoryGeneration& generation = segment.history.generations.front();
  Random random(1);
  const HistoryFrame other =
      make_frame({segment.history.group, segment.history.member, generation.epoch, 1},
                 segment.frame(1).header.first_lsn, 0x12345678, {{.time_ns = 1}}, random);
  Bytes altered = assemble({0});
  altered.insert(altered.end(), other.data(), other.data() + other.bytes());
  const auto scan = segment.scan(altered);
  REQUIRE(scan.ok());
  CHECK(scan->info.frames == 1);
  CHECK(scan->stop_reason.starts_with("FRAME_LINK"));
}

TEST_CASE("a segment header that is damaged or of another version is refused by name") {
  const SmallSegment segment;
  const auto code_of = [&](const Bytes& altered) {
    const auto scan = segment.scan(altered);
    return scan.ok() ? std::string("accepted") : std::string(scan.error().code);
  };
  for (uint64_t at = 0; at < kSegmentHeaderBytes; at += at < 200 || at > 4080 ? 1 : 97) {
    Bytes altered = segment.bytes;
    altered[at] ^= std::byte{0x20};
    INFO("byte " << at);
    CHECK(code_of(altered) == "SEGMENT_CORRUPT");
  }
  const auto with = [&](size_t offset, auto value) {
    Bytes altered = segment.bytes;
    std::memcpy(altered.data() + offset, &value, sizeof value);
    reseal(&altered);
    return code_of(altered);
  };
  CHECK(with(offsetof(SegmentHeader, version), uint16_t{2}) == "SEGMENT_VERSION");
  CHECK(with(offsetof(SegmentHeader, header_bytes), uint16_t{8192}) == "SEGMENT_VERSION");
  CHECK(with(offsetof(SegmentHeader, flags), uint32_t{1u << 16}) == "SEGMENT_VERSION");
  CHECK(with(offsetof(SegmentHeader, flags), uint32_t{1}) == "accepted");
  CHECK(with(offsetof(SegmentHeader, volume_count), uint32_t{65}) == "SEGMENT_CORRUPT");
  CHECK(with(offsetof(SegmentHeader, volume_count), uint32_t{0}) == "SEGMENT_CORRUPT");
  CHECK(with(offsetof(SegmentHeader, volumes), uint16_t{64}) == "SEGMENT_CORRUPT");
  CHECK(with(offsetof(SegmentHeader, first_lsn), uint64_t{0}) == "SEGMENT_CORRUPT");
  for (const size_t bytes : {0, 1, 159, 4095})
    CHECK(code_of(Bytes(segment.bytes.begin(), segment.bytes.begin() + static_cast<int64_t>(bytes))) ==
          "SEGMENT_CORRUPT");
  CHECK(std::string(scan_segment(segment.directory.path("none.seg"), true).error().code) == "IO_ERROR");
}

TEST_CASE("an instant is the last record at or before it") {
  const SmallSegment segment;
  const SegmentInfo& info = segment.info;
  std::vector<const HistoryStep*> steps;
  for (const HistoryStep& step : segment.history.steps)
    if (step.lsn <= info.last_lsn) steps.push_back(&step);
  CHECK(*lsn_at_time(info, steps.front()->record.time_ns - 1) == info.first_lsn - 1);
  CHECK(*lsn_at_time(info, 0) == info.first_lsn - 1);
  CHECK(*lsn_at_time(info, UINT64_MAX) == info.last_lsn);
  CHECK(*lsn_at_time(info, info.last_time_ns) == info.last_lsn);
  CHECK(*lsn_at_time(info, info.last_time_ns, 1) == info.last_lsn);
  CHECK(*lsn_at_time(info, info.last_time_ns, 2) == info.first_lsn - 1);
  for (size_t i = 0; i < steps.size(); i += 1 + steps.size() / 40) {
    const uint64_t time = steps[i]->record.time_ns;
    CHECK(*lsn_at_time(info, time) == steps[i]->lsn);
    if (i > 0)
      CHECK(*lsn_at_time(info, time - 1) ==
            (steps[i - 1]->record.time_ns <= time - 1 ? steps[i - 1]->lsn : 0));
    CHECK(*time_at_lsn(info, steps[i]->lsn) == time);
  }
  CHECK(std::string(time_at_lsn(info, 0).error().code) == "POINT_UNKNOWN");
  CHECK(std::string(time_at_lsn(info, info.last_lsn + 1).error().code) == "POINT_UNKNOWN");
}

TEST_CASE("looking for an instant in a segment that was damaged says so") {
  const SmallSegment segment;
  Bytes altered = segment.bytes;
  altered[segment.offsets[2] + 20] ^= std::byte{4};
  write_file(segment.info.path, altered);
  CHECK(std::string(lsn_at_time(segment.info, UINT64_MAX).error().code) == "SEGMENT_CORRUPT");
  CHECK(std::string(time_at_lsn(segment.info, segment.info.last_lsn).error().code) == "SEGMENT_CORRUPT");
  CHECK(time_at_lsn(segment.info, segment.info.first_lsn).ok());
}
