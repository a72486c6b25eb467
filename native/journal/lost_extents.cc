#include "journal/lost_extents.h"

#include <algorithm>
#include <utility>

#include "journal/run.h"

namespace afterimage {

Result<std::unique_ptr<LostExtents>> LostExtents::open(const SegmentInfo& whole, const std::string& run_path,
                                                       const std::optional<SegmentInfo>& intact,
                                                       size_t stretches_max) {
  const auto run = Run::open(run_path);
  if (!run.ok()) return run.error();
  if ((*run)->segments().size() != 1 || !(*run)->segments().front().is(whole))
    return Error{"RUN_CORRUPT", run_path + ": is of another segment"};
  std::map<uint16_t, ExtentMap> before;
  if (intact) {
    auto maps = index_segment(*intact, intact->last_lsn);
    if (!maps.ok()) return maps.error();
    before = std::move(*maps);
  }
  const uint64_t intact_bytes = intact ? intact->bytes : 0;
  std::unique_ptr<LostExtents> lost(new LostExtents);
  lost->stretches_max_ = stretches_max;
  for (const RunVolume& volume : (*run)->volumes()) {
    std::vector<RunEntry> entries, found;
    if (Outcome looked = (*run)->lookup(volume.number, 0, kSectorsMax, &entries); !looked.ok())
      return looked.error();
    Stretches stretches;
    for (const RunEntry& entry : entries) {
      // The newest of a sector lies behind all others of it: what is found in an intact frame was not lost.
      if (!entry.is_zero() && entry.frame_offset < intact_bytes) continue;
      found.clear();
      if (entry.is_zero()) {
        // A zero extent does not say which frame it is of. Where what is intact ends in zeroes it is the
        // same.
        before[volume.number].lookup(entry.start, entry.length, &found);
        std::erase_if(found, [](const RunEntry& each) { return !each.is_zero(); });
      }
      append_rest({entry.start, entry.length}, found, &stretches);
    }
    if (!stretches.empty()) lost->left_.emplace(volume.number, std::move(stretches));
  }
  return lost;
}

Result<std::optional<uint64_t>> LostExtents::follow(const SegmentIndex::Source& source, uint64_t lsn_max) {
  const SegmentInfo& segment = source.segment;
  if (segment.first_lsn > lsn_max) return std::optional<uint64_t>();
  if (left_.empty()) return std::optional(segment.first_lsn);
  const uint64_t last = std::min(lsn_max, segment.last_lsn);
  std::map<uint16_t, Stretches> left;
  size_t pieces = count();
  std::vector<RunEntry> set;
  for (const auto& [volume, stretches] : left_) {
    const auto index = SegmentIndex::open(source, volume, last);
    if (!index.ok()) return index.error();
    Stretches rest;
    for (const Stretch& stretch : stretches) {
      set.clear();
      if (Outcome looked = (*index)->lookup(stretch.start, stretch.length, &set); !looked.ok())
        return looked.error();
      const size_t known = rest.size();
      append_rest(stretch, set, &rest);
      const size_t parts = rest.size() - known;
      if (parts > 1 && pieces - 1 + parts > stretches_max_) {
        rest.resize(known);
        rest.push_back(stretch);
      } else {
        pieces = pieces - 1 + parts;
      }
    }
    if (!rest.empty()) left.emplace(volume, std::move(rest));
  }
  if (!left.empty()) {
    left_ = std::move(left);
    return std::optional<uint64_t>();
  }
  // The first of its LSNs at which all is set: once it is, it stays so.
  uint64_t low = segment.first_lsn;
  uint64_t high = last;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const auto is_set = is_all_set(segment, middle);
    // The run may be all that can be read of it.
    if (!is_set.ok()) break;
    if (*is_set)
      high = middle;
    else
      low = middle + 1;
  }
  left_.clear();
  return std::optional(high);
}

size_t LostExtents::count() const {
  size_t pieces = 0;
  for (const auto& [volume, stretches] : left_) pieces += stretches.size();
  return pieces;
}

void LostExtents::append_rest(const Stretch& stretch, std::span<const RunEntry> set, Stretches* rest) {
  uint64_t from = stretch.start;
  for (const RunEntry& entry : set) {
    if (entry.start > from) rest->push_back({from, entry.start - from});
    from = entry.end();
  }
  const uint64_t end = stretch.start + stretch.length;
  if (from < end) rest->push_back({from, end - from});
}

Result<bool> LostExtents::is_all_set(const SegmentInfo& segment, uint64_t lsn) const {
  auto maps = index_segment(segment, lsn);
  if (!maps.ok()) return maps.error();
  std::vector<RunEntry> set;
  Stretches rest;
  for (const auto& [volume, stretches] : left_) {
    for (const Stretch& stretch : stretches) {
      set.clear();
      (*maps)[volume].lookup(stretch.start, stretch.length, &set);
      append_rest(stretch, set, &rest);
      if (!rest.empty()) return false;
    }
  }
  return true;
}

}  // namespace afterimage
