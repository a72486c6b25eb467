// LostExtents: what the lost records of a damaged segment had set, by volume, and no later record has set
// again. Known from the segment's run, which was built when all of it was there. Once nothing of it is left,
// no point from there on shows a sector as it was before a lost record.
//
// Threads: one at a time, any worker thread; blocks on I/O. Ownership: extents in memory, no descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "journal/extent_map.h"
#include "journal/segment.h"
#include "journal/segment_index.h"

namespace afterimage {

/// Of 16 bytes, of all volumes together. Beyond this a stretch of which a part in the middle was set counts
/// as left as a whole: what is said then is late, never early.
constexpr size_t kLostStretchesMax = 1u << 20;

class LostExtents {
 public:
  /// `whole`: the segment as it was written; `intact`: what can still be read of it, if anything. Errors:
  /// RUN_CORRUPT, RUN_VERSION, IO_ERROR: the run cannot be used, or is of another segment; SEGMENT_CORRUPT,
  /// SEGMENT_VERSION, IO_ERROR of what is intact.
  static Result<std::unique_ptr<LostExtents>> open(const SegmentInfo& whole, const std::string& run_path,
                                                   const std::optional<SegmentInfo>& intact,
                                                   size_t stretches_max = kLostStretchesMax);

  /// Goes on over the next segment behind those before it, as far as `lsn_max`. The first LSN at which
  /// nothing is left, or none: it lies behind. Not to be called again once there was one. Errors: those of
  /// SegmentIndex::open; nothing has changed then.
  Result<std::optional<uint64_t>> follow(const SegmentIndex::Source& source, uint64_t lsn_max);

 private:
  struct Stretch {  // of sectors
    uint64_t start;
    uint64_t length;
  };
  using Stretches = std::vector<Stretch>;  // ascending

  LostExtents() = default;
  size_t count() const;
  /// Appends what the entries of a lookup within the stretch leave of it.
  static void append_rest(const Stretch& stretch, std::span<const RunEntry> set, Stretches* rest);
  /// Whether the records of the segment up to `lsn` set all that is left.
  Result<bool> is_all_set(const SegmentInfo& segment, uint64_t lsn) const;

  size_t stretches_max_ = 0;
  std::map<uint16_t, Stretches> left_;  // by volume, no volume without any
};

}  // namespace afterimage
