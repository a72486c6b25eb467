// ExtentMap: where each sector of a volume was last written, newest wins; sorted and non-overlapping. Built
// from a segment's tables for the one partial segment of a point, and for making a run.
//
// Threads: one writer or many readers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "journal/segment.h"

namespace afterimage {

constexpr uint32_t kExtentSectorsMax = (1u << 24) - 1;  // an index entry has 24 bits for its length
constexpr uint64_t kSectorsMax = 1ull << 40;            // and 40 for its start

/// Where a stretch of sectors was last written. A zero extent has frame offset 0, record 0 and record sector
/// 0: no frame lies at offset 0.
struct RunEntry {
  uint64_t start = 0;    // sector
  uint32_t length = 0;   // sectors
  uint32_t segment = 0;  // ordinal within the index's segments
  uint64_t frame_offset = 0;
  uint32_t record = 0;
  uint32_t record_sector = 0;  // sectors from the start of the record's range to `start`
  bool is_zero() const { return frame_offset == 0; }
  uint64_t end() const { return start + length; }
  /// The part of it within [from, until), which it intersects.
  RunEntry clipped(uint64_t from, uint64_t until) const;
  bool operator==(const RunEntry&) const = default;
};

class ExtentMap {
 public:
  /// Newer wins: what was there before in [entry.start, entry.end()) is replaced.
  void insert(const RunEntry& entry);
  /// As insert of a zero extent, of any length.
  void insert_zero(uint64_t start, uint64_t length);
  /// Appends the entries that intersect [start, start + length), clipped to it, in order.
  void lookup(uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const;
  size_t size() const { return extents_.size(); }

 private:
  struct Where {  // RunEntry without its start
    uint32_t length;
    uint32_t segment;
    uint64_t frame_offset;
    uint16_t record;
    uint16_t record_sector;
  };
  using Extents = std::map<uint64_t, Where>;  // by start
  static RunEntry entry_of(const Extents::value_type& extent);
  void place(const RunEntry& entry);
  void carve(uint64_t start, uint64_t end);  // leaves nothing in [start, end)

  Extents extents_;
};

/// Extents of one volume from the frames of `segment` up to and including `lsn_max`, reading tables only.
/// Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, IO_ERROR.
Result<std::unique_ptr<ExtentMap>> index_segment(const SegmentInfo& segment, uint16_t volume,
                                                 uint64_t lsn_max);

/// The same of every volume that has records with a range, by number.
Result<std::map<uint16_t, ExtentMap>> index_segment(const SegmentInfo& segment, uint64_t lsn_max);

}  // namespace afterimage
