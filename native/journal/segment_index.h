// SegmentIndex: where one segment last wrote each sector of one volume, up to a point: answered by the
// segment's run if that can be used, else by the extents found by scanning its tables.
//
// Threads: lookup from any.
// Ownership: owns the descriptors of the segment and of its run; the files may be unlinked while it is open.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "journal/extent_map.h"
#include "journal/run.h"
#include "journal/segment.h"
#include "os/fd.h"

namespace afterimage {

/// FILE_LIMIT where the process or the system has no descriptor left, else IO_ERROR.
Error open_error(const std::string& path, Errno error);

class SegmentIndex {
 public:
  struct Source {
    const SegmentInfo& segment;
    const std::string& run_path;  // may be ""
    uint32_t run_pages_kept_max = kRunPagesKeptMax;
  };
  /// A run that is corrupt, stale or missing is not an error: the segment is scanned. That it could not be
  /// opened for want of descriptors or memory is: a scan costs more of both. Errors: SEGMENT_CORRUPT,
  /// SEGMENT_VERSION, FILE_LIMIT, IO_ERROR.
  static Result<std::unique_ptr<SegmentIndex>> open(const Source& source, uint16_t volume, uint64_t lsn_max);

  /// As ExtentMap::lookup. A page of the run that turns out to be damaged sends this and every later lookup
  /// to the segment itself. Errors: SEGMENT_CORRUPT, IO_ERROR.
  Outcome lookup(uint64_t start, uint64_t length, std::vector<RunEntry>* entries);

  const SegmentInfo& segment() const { return segment_; }
  int fd() const { return fd_.get(); }
  bool uses_run() const { return !is_scanned_.load(std::memory_order_acquire); }

 private:
  SegmentIndex() = default;
  Outcome scan();

  SegmentInfo segment_;
  uint16_t volume_ = 0;
  uint64_t lsn_max_ = 0;
  Fd fd_;
  std::unique_ptr<Run> run_;
  std::mutex scanning_;
  std::unique_ptr<ExtentMap> map_;       // immutable once is_scanned_
  std::atomic<bool> is_scanned_{false};  // else the run answers
};

}  // namespace afterimage
