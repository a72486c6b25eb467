// Run: an immutable, sorted, non-overlapping extent index over the records of one or more whole segments,
// flattened to the newest. Layout: docs/FORMAT.md, "Run". Mapped read-only and searched through its sparse
// fence index; nothing is built when a point is opened.
//
// Threads: a Run is immutable after open and may be used from any thread. build_run from a worker thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "journal/segment.h"

namespace afterimage {

constexpr uint32_t kRunEntriesPerPage = 256;  // 16 bytes each: a 4 KiB page, checked by the fence entry's CRC

/// Where a stretch of sectors was last written. 16 bytes on disk:
///   word 0: start sector (40 bits) | length in sectors (24 bits)
///   word 1: segment ordinal (18) | frame offset / 8 (23) | record index (12) | sectors into the record (11)
/// A zero extent has frame offset 0, record 0 and sectors 0: no frame lies at offset 0.
struct RunEntry {
  uint64_t start = 0;    // sector
  uint32_t length = 0;   // sectors
  uint32_t segment = 0;  // ordinal within the run's segment table
  uint64_t frame_offset = 0;
  uint32_t record = 0;
  uint32_t record_sector = 0;
  bool is_zero() const { return frame_offset == 0; }
};

/// In-memory form, also used for the one partial segment: per volume, sorted and non-overlapping.
class ExtentMap {
 public:
  /// Newer wins: what was there before in [entry.start, entry.start + entry.length) is replaced.
  void insert(const RunEntry& entry);
  /// Calls nothing; returns the entries that intersect [start, start+length), clipped to it, in order.
  void lookup(uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const;
  size_t size() const;
};

/// Extents of one volume from the frames of `segment` up to and including `lsn_max`, reading tables only.
Result<std::unique_ptr<ExtentMap>> index_segment(const SegmentInfo& segment, uint16_t volume,
                                                 uint64_t lsn_max);

/// Builds the run of one sealed segment (all volumes), atomically: temporary file, fsync, rename, fsync
/// directory.
Outcome build_run(const SegmentInfo& segment, const std::string& run_path);

class Run {
 public:
  /// Errors: RUN_CORRUPT, RUN_VERSION, IO_ERROR. The caller rebuilds a corrupt run from its segments.
  static Result<std::unique_ptr<Run>> open(const std::string& path);
  ~Run();
  uint64_t first_lsn() const;
  uint64_t last_lsn() const;
  uint64_t entry_count(uint16_t volume) const;
  /// As ExtentMap::lookup. A page whose CRC does not match is RUN_CORRUPT.
  Outcome lookup(uint16_t volume, uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const;
};

}  // namespace afterimage
