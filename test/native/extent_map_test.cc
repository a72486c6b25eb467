#include "journal/extent_map.h"

#include <doctest/doctest.h>

#include <vector>

#include "journal_history.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

/// What one sector holds: the record's identity and the sector within it, as an ExtentMap would name it.
struct Cell {
  bool is_set = false;
  uint64_t frame_offset = 0;
  uint32_t record = 0;
  uint32_t record_sector = 0;
  bool operator==(const Cell&) const = default;
};

/// Spreads a lookup's answer over cells; fails on overlap, disorder or entries outside the range asked for.
std::vector<Cell> cells_of(const std::vector<RunEntry>& entries, uint64_t start, uint64_t length) {
  std::vector<Cell> cells(length);
  uint64_t from = start;
  for (const RunEntry& entry : entries) {
    REQUIRE(entry.length > 0);
    REQUIRE(entry.start >= from);
    REQUIRE(entry.end() <= start + length);
    for (uint32_t i = 0; i < entry.length; ++i)
      cells[entry.start - start + i] = {true, entry.frame_offset, entry.record,
                                        entry.is_zero() ? 0 : entry.record_sector + i};
    from = entry.end();
  }
  return cells;
}

}  // namespace

TEST_CASE("after any sequence of insertions every sector names its newest record") {
  constexpr uint64_t kSectors = 600;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    ExtentMap map;
    std::vector<Cell> model(kSectors);
    for (int step = 0; step < 300; ++step) {
      const uint64_t start = random() % kSectors;
      const uint64_t length =
          1 + random() % std::min<uint64_t>(kSectors - start, random() % 8 == 0 ? 400 : 20);
      if (random() % 4 == 0) {
        map.insert_zero(start, length);
        for (uint64_t i = 0; i < length; ++i) model[start + i] = {true, 0, 0, 0};
      } else {
        const RunEntry entry{.start = start,
                             .length = static_cast<uint32_t>(length),
                             .segment = 0,
                             .frame_offset = 4096 + random() % 1000 * 8,
                             .record = static_cast<uint32_t>(random() % 4096),
                             .record_sector = static_cast<uint32_t>(random() % (2049 - length))};
        map.insert(entry);
        for (uint32_t i = 0; i < length; ++i)
          model[start + i] = {true, entry.frame_offset, entry.record, entry.record_sector + i};
      }
      const uint64_t from = random() % kSectors;
      const uint64_t count = 1 + random() % (kSectors - from);
      std::vector<RunEntry> entries;
      map.lookup(from, count, &entries);
      const std::vector<Cell> expected(model.begin() + static_cast<int64_t>(from),
                                       model.begin() + static_cast<int64_t>(from + count));
      REQUIRE(cells_of(entries, from, count) == expected);
    }
  }
}

TEST_CASE("a zero extent longer than an index entry can say is kept in pieces") {
  ExtentMap map;
  map.insert_zero(7, 3ull * kExtentSectorsMax + 5);
  std::vector<RunEntry> entries;
  map.lookup(0, kSectorsMax, &entries);
  REQUIRE(entries.size() == 4);
  CHECK(entries.front().start == 7);
  CHECK(entries.back().end() == 7 + 3ull * kExtentSectorsMax + 5);
  for (const RunEntry& entry : entries) CHECK(entry.is_zero());
}

TEST_CASE("the index of a segment up to an LSN ignores every later record, in the same frame too") {
  const ScratchDirectory directory;
  const JournalHistory history({.seed = 5, .generations = 1, .generation_bytes = 1u << 20});
  const WrittenJournal journal = write_journal(history, directory.path("."));
  const SegmentInfo& segment = journal.segments.begin()->second;
  for (const uint64_t lsn : {uint64_t{1}, uint64_t{2}, segment.last_lsn / 2, segment.last_lsn}) {
    const auto map = index_segment(segment, 3, lsn);
    REQUIRE(map.ok());
    std::vector<RunEntry> entries;
    (*map)->lookup(0, kSectorsMax, &entries);
    std::vector<bool> model(history.image_bytes(3) / 512);
    uint64_t size = history.volume(3).size;
    for (const HistoryStep& step : history.steps) {
      if (step.lsn > lsn || step.record.volume != 3) continue;
      for (uint64_t i = 0; i < step.record.length / 512; ++i) model[step.record.offset / 512 + i] = true;
      if (step.record.kind != RecordKind::kResize) continue;
      for (uint64_t i = step.record.offset / 512; i < size / 512; ++i) model[i] = true;
      size = step.record.offset;
    }
    std::vector<bool> found(model.size());
    for (const RunEntry& entry : entries)
      for (uint64_t i = entry.start; i < entry.end(); ++i) found[i] = true;
    CHECK(found == model);
  }
}
