#include "journal/run.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>

#include "journal_history.h"
#include "os/crc32c.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

/// A segment of one volume's many small writes, so that its run has several pages.
struct IndexedSegment {
  ScratchDirectory directory;
  JournalHistory history{{.seed = 11,
                          .generations = 1,
                          .generation_bytes = 2u << 20,
                          .record_bytes_max = 1024,
                          .frame_raw_bytes = 300u << 10}};
  SegmentInfo info;
  std::string run_path = directory.path("x.run");
  Bytes bytes;
  RunHeader header{};

  IndexedSegment() {
    info = write_journal(history, directory.path(".")).segments.begin()->second;
    REQUIRE(build_run(info, run_path).ok());
    bytes = read_file(run_path);
    std::memcpy(&header, bytes.data(), sizeof header);
  }
  Result<std::unique_ptr<Run>> open(const Bytes& altered) const {
    const std::string path = directory.path("altered.run");
    write_file(path, altered);
    return Run::open(path);
  }
  std::string code_of(const Bytes& altered) const {
    const auto run = open(altered);
    return run.ok() ? "accepted" : run.error().code;
  }
  /// Changes the header and makes its CRC right again.
  template <typename T>
  std::string with(size_t offset, T value) const {
    Bytes altered = bytes;
    std::memcpy(altered.data() + offset, &value, sizeof value);
    const uint32_t crc = crc32c(altered.data(), offsetof(RunHeader, header_crc32c));
    std::memcpy(altered.data() + offsetof(RunHeader, header_crc32c), &crc, sizeof crc);
    return code_of(altered);
  }
};

}  // namespace

TEST_CASE("a run answers what the extent map of its segment answers") {
  const IndexedSegment segment;
  const auto run = Run::open(segment.run_path);
  REQUIRE(run.ok());
  CHECK((*run)->first_lsn() == segment.info.first_lsn);
  CHECK((*run)->last_lsn() == segment.info.last_lsn);
  REQUIRE((*run)->segments().size() == 1);
  CHECK((*run)->segments()[0].is(segment.info));
  const auto forgetful = Run::open(segment.run_path, 1);  // reads nearly every page anew
  REQUIRE(forgetful.ok());
  Random random(2);
  for (const uint16_t volume : {3, 60, 4}) {
    const auto map = index_segment(segment.info, volume, UINT64_MAX);
    REQUIRE(map.ok());
    if (volume == 3) CHECK((*map)->size() > 3 * kRunEntriesPerPage);
    if (volume == 4) CHECK((*map)->size() == 0);
    for (int round = 0; round < 2000; ++round) {
      const uint64_t start = random() % 11000;
      const uint64_t length = round == 0 ? kSectorsMax : 1 + random() % (round % 2 == 0 ? 12000 : 9);
      std::vector<RunEntry> expected, found;
      (*map)->lookup(start, length, &expected);
      REQUIRE((*run)->lookup(volume, start, length, &found).ok());
      REQUIRE(found == expected);
      found.clear();
      REQUIRE((*forgetful)->lookup(volume, start, length, &found).ok());
      REQUIRE(found == expected);
    }
  }
}

TEST_CASE("an extent survives packing at the limits of its bits") {
  for (const RunEntry& entry :
       {RunEntry{.start = kSectorsMax - 1,
       .length = kExtentSectorsMax,
       .segment = kRunSegmentsMax - 1,
       .frame_offset = kSegmentBytesMax - 8,
       .record = 4095,
       .record_sector = 2047},
        RunEntry{.start = 0, .length = 1, .segment = 0, .frame_offset = 0, .record = 0, .record_sector = 0},
        RunEntry{
            .start = 1, .length = 2, .segment = 3, .frame_offset = 4096, .record = 5, .record_sector = 6}})
    CHECK(RunExtent::pack(entry).unpack() == entry);
}

TEST_CASE("a run that was damaged anywhere is refused, at once or when the page is touched") {
  const IndexedSegment segment;
  const uint64_t tables = sizeof(RunHeader) + sizeof(RunSegment) +
                          segment.header.volume_count * sizeof(RunVolume) +
                          segment.header.page_count * sizeof(RunFence);
  for (uint64_t at = 0; at < tables; ++at) {
    Bytes altered = segment.bytes;
    altered[at] ^= std::byte{0x10};
    INFO("byte " << at);
    const std::string code = segment.code_of(altered);
    const bool is_version = at >= 8 && at < 12;
    CHECK(code == (is_version ? "RUN_VERSION" : "RUN_CORRUPT"));
  }
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    const uint64_t at =
        segment.header.pages_offset + random() % (segment.bytes.size() - segment.header.pages_offset);
    Bytes altered = segment.bytes;
    altered[at] ^= std::byte{1} << random() % 8;
    const auto run = segment.open(altered);
    REQUIRE(run.ok());
    std::vector<RunEntry> entries;
    std::string codes;
    for (const uint16_t volume : {3, 60}) {
      const Outcome looked = (*run)->lookup(volume, 0, kSectorsMax, &entries);
      if (!looked.ok()) codes += looked.error().code;
    }
    CHECK(codes == "RUN_CORRUPT");
  }
}

TEST_CASE("a run of another length than its header says is never opened") {
  const IndexedSegment segment;
  for (uint64_t bytes = 0; bytes < segment.bytes.size(); bytes += bytes < 200 ? 1 : 4096) {
    const Bytes cut(segment.bytes.begin(), segment.bytes.begin() + static_cast<int64_t>(bytes));
    CHECK(segment.code_of(cut) == "RUN_CORRUPT");
  }
  Bytes longer = segment.bytes;
  longer.push_back(std::byte{0});
  CHECK(segment.code_of(longer) == "RUN_CORRUPT");
  CHECK(std::string(Run::open(segment.directory.path("none.run")).error().code) == "IO_ERROR");
}

// Symptom: a sector that the disk could not read, below a run that an export was using, ended the receiver by
// SIGBUS, ingest included. Cause: runs were mapped. If it returns, this process ends here: what a mapping
// finds behind the end of a file is what it finds in a sector that cannot be read.
TEST_CASE("pages that can no longer be read are an error of the lookup") {
  const IndexedSegment segment;
  const auto run = Run::open(segment.run_path);
  REQUIRE(run.ok());
  std::vector<RunEntry> before, after;
  REQUIRE((*run)->lookup(3, 0, 1000, &before).ok());
  std::filesystem::resize_file(segment.run_path, segment.header.pages_offset + kRunPageBytes / 2);
  const Outcome looked = (*run)->lookup(60, 0, kSectorsMax, &after);
  REQUIRE_FALSE(looked.ok());
  CHECK(std::string(looked.error().code) == "RUN_CORRUPT");
  CHECK(after.empty());
}

TEST_CASE("counts and offsets that lie are refused though their checksum is right") {
  const IndexedSegment segment;
  CHECK(segment.with(offsetof(RunHeader, flags), uint32_t{1}) == "accepted");
  CHECK(segment.with(offsetof(RunHeader, flags), uint32_t{1u << 31}) == "RUN_VERSION");
  CHECK(segment.with(offsetof(RunHeader, header_bytes), uint16_t{64}) == "RUN_VERSION");
  for (const uint32_t count : {0u, 2u, kRunSegmentsMax, UINT32_MAX})
    CHECK(segment.with(offsetof(RunHeader, segment_count), count) == "RUN_CORRUPT");
  for (const uint32_t count : {0u, 1u, 65u, UINT32_MAX})
    CHECK(segment.with(offsetof(RunHeader, volume_count), count) == "RUN_CORRUPT");
  for (const uint64_t count : {uint64_t{0}, segment.header.page_count + 1, uint64_t{1} << 60, UINT64_MAX})
    CHECK(segment.with(offsetof(RunHeader, page_count), count) == "RUN_CORRUPT");
  for (const uint64_t offset : {uint64_t{0}, uint64_t{8192} * 8, UINT64_MAX - 4095})
    CHECK(segment.with(offsetof(RunHeader, pages_offset), offset) == "RUN_CORRUPT");
  CHECK(segment.with(offsetof(RunHeader, first_lsn), uint64_t{2}) == "RUN_CORRUPT");
}

TEST_CASE("a run that is whole and names other records than its segment holds is told apart") {
  const IndexedSegment segment;
  const auto fault_of = [&](const Bytes& altered) {
    const std::string path = segment.directory.path("altered.run");
    write_file(path, altered);
    const auto fault = run_fault(segment.info, path);
    return fault.ok() ? *fault : std::string(fault.error().code);
  };
  const auto sealed_again = [&](Bytes altered) {  // every checksum right
    const size_t fence =
        sizeof(RunHeader) + sizeof(RunSegment) + segment.header.volume_count * sizeof(RunVolume);
    for (uint64_t page = 0; page < segment.header.page_count; ++page) {
      const uint32_t crc =
          crc32c(altered.data() + segment.header.pages_offset + page * kRunPageBytes, kRunPageBytes);
      std::memcpy(altered.data() + fence + page * sizeof(RunFence) + offsetof(RunFence, crc32c), &crc,
                  sizeof crc);
    }
    const size_t tables = fence + segment.header.page_count * sizeof(RunFence) - sizeof(RunHeader);
    const uint32_t tables_crc = crc32c(altered.data() + sizeof(RunHeader), tables);
    std::memcpy(altered.data() + offsetof(RunHeader, tables_crc32c), &tables_crc, sizeof tables_crc);
    const uint32_t crc = crc32c(altered.data(), offsetof(RunHeader, header_crc32c));
    std::memcpy(altered.data() + offsetof(RunHeader, header_crc32c), &crc, sizeof crc);
    return altered;
  };
  CHECK(fault_of(segment.bytes).empty());
  CHECK(fault_of(sealed_again(segment.bytes)).empty());
  Bytes other = segment.bytes;
  other[offsetof(RunHeader, member)] ^= std::byte{1};
  CHECK(fault_of(sealed_again(other)).find("another member") != std::string::npos);
  other = segment.bytes;
  other[sizeof(RunHeader) + offsetof(RunSegment, link)] ^= std::byte{1};
  CHECK(fault_of(sealed_again(other)).find("another segment") != std::string::npos);
  other = segment.bytes;
  other[sizeof(RunHeader) + sizeof(RunSegment) + offsetof(RunVolume, uuid)] ^= std::byte{1};
  CHECK(fault_of(sealed_again(other)).find("other volumes") != std::string::npos);
  other = segment.bytes;
  other[segment.header.pages_offset + 8 + 1] ^= std::byte{1 << 3};  // the record of the first extent
  CHECK(fault_of(sealed_again(other)).find("other records") != std::string::npos);
  other = segment.bytes;
  other.back() ^= std::byte{1};
  CHECK(fault_of(other).find("page") != std::string::npos);
  CHECK(std::string(run_fault(segment.info, segment.directory.path("none.run")).error().code) == "IO_ERROR");
}

TEST_CASE("no run is left behind when its segment cannot be read") {
  const IndexedSegment segment;
  Bytes altered = read_file(segment.info.path);
  altered[kSegmentHeaderBytes + 300] ^= std::byte{1};
  write_file(segment.info.path, altered);
  const std::string path = segment.directory.path("other.run");
  const Outcome built = build_run(segment.info, path);
  REQUIRE_FALSE(built.ok());
  CHECK(std::string(built.error().code) == "SEGMENT_CORRUPT");
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}
