// What lost records had set, and where it was set again, compared with a count of sectors, one record at a
// time.
#include "journal/lost_extents.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "journal/run.h"
#include "journal_history.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

constexpr uint64_t kSectors = (5u << 20) / kSectorBytes;

enum class Kind : uint8_t { kNone, kData, kZero };
/// What set each sector last, by volume.
using Sectors = std::map<uint16_t, std::vector<Kind>>;

/// A journal of several segments and two generations, each segment with its run.
struct LongJournal {
  ScratchDirectory directory;
  JournalHistory history;
  std::vector<SegmentInfo> segments;

  explicit LongJournal(uint64_t seed, uint64_t generation_bytes = 14u << 20)
      : history({.seed = seed,
                 .generations = 2,
                 .generation_bytes = generation_bytes,
                 .record_bytes_max = 256u << 10,
                 .frame_raw_bytes = 300u << 10}) {
    for (const auto& [lsn, info] : write_journal(history, directory.path(".")).segments) {
      segments.push_back(info);
      REQUIRE(build_run(info, run_of(info)).ok());
    }
    REQUIRE(segments.size() >= 5);
  }
  std::string run_of(const SegmentInfo& info) const { return info.path + ".run"; }

  /// What is left of a copy of the segment of which a byte of the frame at `frame` was changed.
  std::optional<SegmentInfo> damaged(const SegmentInfo& whole, uint64_t frame) const {
    Bytes bytes = read_file(whole.path);
    bytes[frame + 64] ^= std::byte{1};
    const std::string path = directory.path("damaged.seg");
    write_file(path, bytes);
    const auto scan = scan_segment(path, true);
    REQUIRE(scan.ok());
    if (scan->info.frames == 0) return std::nullopt;
    REQUIRE(scan->info.bytes == frame);
    return scan->info;
  }
  std::vector<uint64_t> frames_of(const SegmentInfo& segment) const {
    const Bytes bytes = read_file(segment.path);
    std::vector<uint64_t> frames;
    for (uint64_t at = kSegmentHeaderBytes; at < segment.bytes;) {
      frames.push_back(at);
      FrameHeader header;
      std::memcpy(&header, bytes.data() + at, sizeof header);
      at += header.frame_bytes;
    }
    return frames;
  }

  /// The first LSN behind `whole` at which all that its records from `lost` on had set was set again.
  std::optional<uint64_t> free_from(const SegmentInfo& whole, uint64_t lost) const {
    std::map<uint16_t, uint64_t> sizes;
    Sectors intact, all, left;
    for (const SegmentVolume& volume : history.generations.front().volumes) {
      sizes[volume.number] = volume.size;
      for (Sectors* sectors : {&intact, &all, &left}) (*sectors)[volume.number].resize(kSectors);
    }
    uint64_t count = 0;
    bool is_counted = false;
    for (const HistoryStep& step : history.steps) {
      const FrameBuilder::Record& record = step.record;
      uint64_t from = 0, until = 0;
      if (record.kind == RecordKind::kWrite || record.kind == RecordKind::kZero) {
        from = record.offset / kSectorBytes;
        until = from + record.length / kSectorBytes;
      } else if (record.kind == RecordKind::kResize) {
        from = record.offset / kSectorBytes;
        until = std::max(from, sizes[record.volume] / kSectorBytes);
        sizes[record.volume] = record.offset;
      }
      const Kind kind = record.kind == RecordKind::kWrite ? Kind::kData : Kind::kZero;
      if (step.lsn >= whole.first_lsn && step.lsn <= whole.last_lsn) {
        for (uint64_t sector = from; sector < until; ++sector) {
          all[record.volume][sector] = kind;
          if (step.lsn < lost)
            intact[record.volume][sector] = kind;
          else
            left[record.volume][sector] = Kind::kData;
        }
      }
      if (step.lsn <= whole.last_lsn) continue;
      if (!is_counted) {
        for (auto& [volume, sectors] : left)
          for (uint64_t sector = 0; sector < kSectors; ++sector) {
            // Zeroes over zeroes: what is there is what was written.
            if (all[volume][sector] == Kind::kZero && intact[volume][sector] == Kind::kZero)
              sectors[sector] = Kind::kNone;
            if (sectors[sector] != Kind::kNone) ++count;
          }
        is_counted = true;
        if (count == 0) return step.lsn;
      }
      for (uint64_t sector = from; sector < until; ++sector) {
        Kind& mark = left[record.volume][sector];
        if (mark == Kind::kNone) continue;
        mark = Kind::kNone;
        --count;
      }
      if (count == 0) return step.lsn;
    }
    return std::nullopt;
  }

  /// The same as LostExtents says it, over segments with their runs or without.
  std::optional<uint64_t> followed(LostExtents& lost, const SegmentInfo& whole, uint64_t lsn_max,
                                   bool with_runs) const {
    for (const SegmentInfo& segment : segments) {
      if (segment.first_lsn <= whole.last_lsn) continue;
      const std::string run = with_runs ? run_of(segment) : "";
      const auto found = lost.follow({.segment = segment, .run_path = run}, lsn_max);
      REQUIRE(found.ok());
      if (*found) return *found;
    }
    return std::nullopt;
  }
};

}  // namespace

TEST_CASE("lost extents are left until exactly the record that sets the last of them") {
  int ends = 0, lasts = 0;
  for (uint64_t seed = 1; seed <= (kIsSampled ? 1 : 4); ++seed) {
    const LongJournal journal(seed);
    Random random(seed);
    for (size_t i = 0; i + 1 < journal.segments.size(); ++i) {
      const SegmentInfo& whole = journal.segments[i];
      const std::vector<uint64_t> frames = journal.frames_of(whole);
      // The last frame alone, the first and all behind it, and one in between.
      for (const size_t frame : {frames.size() - 1, size_t{0}, random() % frames.size()}) {
        const auto intact = journal.damaged(whole, frames[frame]);
        const uint64_t lost = intact ? intact->last_lsn + 1 : whole.first_lsn;
        const auto expected = journal.free_from(whole, lost);
        CAPTURE(seed);
        CAPTURE(lost);
        const uint64_t last = journal.segments.back().last_lsn;
        std::vector<uint64_t> bounds = {last};
        if (expected) bounds.insert(bounds.end(), {*expected, *expected - 1});
        for (const uint64_t lsn_max : bounds) {
          const auto opened = LostExtents::open(whole, journal.run_of(whole), intact);
          REQUIRE(opened.ok());
          const auto found = journal.followed(**opened, whole, lsn_max, random() % 2 == 0);
          CHECK(found == (expected && *expected <= lsn_max ? expected : std::nullopt));
        }
        ++(expected ? ends : lasts);
      }
    }
  }
  MESSAGE(ends << " were set again, " << lasts << " were not");
  CHECK(ends > 0);
  CHECK(lasts > 0);
}

TEST_CASE("where there is no room for the pieces of a lost extent, all of it counts as left") {
  const LongJournal journal(1);
  int later = 0;
  for (size_t i = 0; i < 3; ++i) {
    const SegmentInfo& whole = journal.segments[i];
    for (const uint64_t frame : journal.frames_of(whole)) {
      const auto intact = journal.damaged(whole, frame);
      const auto exact = journal.free_from(whole, intact ? intact->last_lsn + 1 : whole.first_lsn);
      const auto narrow = LostExtents::open(whole, journal.run_of(whole), intact, 1);
      REQUIRE(narrow.ok());
      const auto found = journal.followed(**narrow, whole, UINT64_MAX, true);
      if (found) CHECK(*found >= exact.value_or(UINT64_MAX));
      if (exact && found != exact) ++later;
    }
  }
  CHECK(later > 0);
}

TEST_CASE("lost extents are not guessed without the segment's own run") {
  const LongJournal journal(3);
  const SegmentInfo& whole = journal.segments[1];
  const auto code = [&](const std::string& run, const std::optional<SegmentInfo>& intact) {
    const auto opened = LostExtents::open(whole, run, intact);
    return opened.ok() ? std::string("accepted") : std::string(opened.error().code);
  };
  CHECK(code(journal.run_of(whole), std::nullopt) == "accepted");
  CHECK(code(journal.run_of(journal.segments[0]), std::nullopt) == "RUN_CORRUPT");
  CHECK(code(journal.directory.path("none.run"), std::nullopt) == "IO_ERROR");
  const std::string altered = journal.directory.path("altered.run");
  Bytes bytes = read_file(journal.run_of(whole));
  bytes[bytes.size() - kRunPageBytes + 8] ^= std::byte{1};
  write_file(altered, bytes);
  CHECK(code(altered, std::nullopt) == "RUN_CORRUPT");
  // What is said to be intact is not.
  SegmentInfo wrong = *journal.damaged(whole, journal.frames_of(whole)[2]);
  wrong.last_lsn = whole.last_lsn;
  wrong.bytes = whole.bytes;
  CHECK(code(journal.run_of(whole), wrong) == "SEGMENT_CORRUPT");
}

TEST_CASE("a segment that cannot be read leaves what is left as it was") {
  const LongJournal journal(2);
  const SegmentInfo& whole = journal.segments.front();
  const auto opened = LostExtents::open(whole, journal.run_of(whole), std::nullopt);
  REQUIRE(opened.ok());
  SegmentInfo gone = journal.segments[1];
  gone.path = journal.directory.path("gone.seg");
  CHECK_FALSE((*opened)->follow({.segment = gone, .run_path = ""}, UINT64_MAX).ok());
  CHECK(journal.followed(**opened, whole, UINT64_MAX, true) == journal.free_from(whole, whole.first_lsn));
}
