#include "device/point_in_time_device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

namespace afterimage {
namespace {

/// allocation() looks at this much at a time, so that its memory does not grow with the request.
constexpr uint64_t kAllocationSectors = (64ull << 20) / kSectorBytes;

/// What a disk said, or that what it gave fails its checksums: `recover` tells the two apart.
Errno errno_of(const Error& error) { return error.sys != 0 ? error.sys : EBADMSG; }

/// The tiles up to the one that holds `lsn`. Within a generation they must follow each other without a gap,
/// or what is shown would not be a prefix (R3), but for holes that the caller knows of.
Result<size_t> tiles_until(const PointSource& source, uint64_t lsn) {
  for (size_t i = 0; i < source.tiles.size(); ++i) {
    const SegmentInfo& segment = source.tiles[i].segment;
    if (i > 0) {
      const SegmentInfo& before = source.tiles[i - 1].segment;
      const bool is_next = segment.generation == before.generation && !source.tiles[i].is_after_hole
                               ? segment.first_lsn == before.last_lsn + 1
                               : segment.first_lsn > before.last_lsn;
      const bool follows = is_next && segment.generation >= before.generation;
      if (!follows) return Error{"POINT_UNKNOWN", segment.path + " does not continue " + before.path};
    }
    if (lsn >= segment.first_lsn && lsn <= segment.last_lsn) return i + 1;
  }
  if (source.tiles.empty() || lsn + 1 == source.tiles.front().segment.first_lsn)
    return size_t{0};  // the base itself
  return Error{"POINT_UNKNOWN", "no segment holds LSN " + std::to_string(lsn)};
}

}  // namespace

Result<std::unique_ptr<PointInTimeDevice>> PointInTimeDevice::open(const PointSource& source) {
  uint64_t lsn = source.lsn;
#ifdef AFTERIMAGE_SABOTAGE_POINT_INCLUDES_NEXT  // breaks R3: shows one record too many
  if (!source.tiles.empty() && lsn < source.tiles.back().segment.last_lsn) ++lsn;
#endif
  const auto count = tiles_until(source, lsn);
  if (!count.ok()) return count.error();
  if (*count > kPointTilesMax) {
    return Error{"POINT_TOO_LONG", std::to_string(*count) + " segments lie before LSN " +
                                       std::to_string(lsn) + ", at most " + std::to_string(kPointTilesMax) +
                                       " can be opened"};
  }
  std::unique_ptr<PointInTimeDevice> device(new PointInTimeDevice);
  device->size_ = source.size;
  device->block_size_ = source.block_size;
  device->volume_ = source.volume;
  device->lsn_ = lsn;
  auto base = BaseReader::open(source.base_path, source.size);
  if (!base.ok()) return base.error();
  device->base_ = std::move(*base);
  const auto pages_kept_max = std::max(1u, kIndexPagesKeptMax / std::max(1u, static_cast<uint32_t>(*count)));
  for (const PointSource::Tile& tile : std::span(source.tiles).first(*count)) {
    auto index = SegmentIndex::open({tile.segment, tile.run_path, pages_kept_max}, source.volume, lsn);
    if (!index.ok()) return index.error();
    device->segments_.push_back(std::move(*index));
  }
  return device;
}

Errno PointInTimeDevice::resolve(uint64_t start, uint64_t length, Resolved* resolved) const {
  std::vector<Stretch> open{{start, length}};  // what no newer layer has
  std::vector<Stretch> still_open;
  std::vector<RunEntry> found;
  for (size_t segment = segments_.size(); segment-- > 0 && !open.empty();) {
    still_open.clear();
    for (const Stretch& stretch : open) {
      found.clear();
      const Outcome looked = segments_[segment]->lookup(stretch.start, stretch.length, &found);
      if (!looked.ok()) return errno_of(looked.error());
      uint64_t at = stretch.start;
      for (RunEntry& entry : found) {
        if (entry.start > at) still_open.push_back({at, entry.start - at});
        at = entry.end();
        entry.segment = static_cast<uint32_t>(segment);
        resolved->entries.push_back(entry);
      }
      const uint64_t end = stretch.start + stretch.length;
      if (at < end) still_open.push_back({at, end - at});
    }
    open.swap(still_open);
  }
  resolved->base = std::move(open);
  return 0;
}

Errno PointInTimeDevice::read_over(ReadBase read_base, uint64_t offset, uint64_t length, std::byte* into) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  if (length == 0) return 0;
  const uint64_t end = offset + length;
  const uint64_t first = offset / kSectorBytes;
  Resolved resolved;
  if (const Errno error = resolve(first, (end + kSectorBytes - 1) / kSectorBytes - first, &resolved))
    return error;
  for (const RunEntry& entry : resolved.entries) {
    const uint64_t begin = entry.start * kSectorBytes;
    const uint64_t from = std::max(offset, begin);
    const uint64_t bytes = std::min(end, entry.end() * kSectorBytes) - from;
    if (const Errno error = read_entry(entry, from - begin, bytes, into + (from - offset))) return error;
  }
  for (const Stretch& stretch : resolved.base) {
    const uint64_t from = std::max(offset, stretch.start * kSectorBytes);
    const uint64_t bytes = std::min(end, (stretch.start + stretch.length) * kSectorBytes) - from;
    if (const Errno error = (*base_.*read_base)(from, bytes, into + (from - offset))) return error;
  }
  return 0;
}

Errno PointInTimeDevice::read_entry(const RunEntry& entry, uint64_t from, uint64_t length, std::byte* into) {
  if (entry.is_zero()) {
    std::memset(into, 0, length);
    return 0;
  }
  const SegmentInfo& segment = segments_[entry.segment]->segment();
  const FrameCache::Place place{.fd = segments_[entry.segment]->fd(),
                                .segment = entry.segment,
                                .offset = entry.frame_offset,
                                .end = segment.bytes};
  const auto tables = cache_.tables(place);
  if (!tables.ok()) return errno_of(tables.error());
  const FrameView& view = (*tables)->view;
  // The index is only a claim about the frame, which is checked here: a wrong one must not show wrong bytes.
  if (view.header->generation != segment.generation || view.header->first_lsn < segment.first_lsn ||
      entry.record >= view.records.size() || view.header->first_lsn + entry.record > lsn_)
    return EBADMSG;
  const RecordEntry& record = view.records[entry.record];
  const uint64_t within = uint64_t{entry.record_sector} * kSectorBytes;
  if (static_cast<RecordKind>(record.kind) != RecordKind::kWrite || record.volume != volume_ ||
      record.offset + within != entry.start * kSectorBytes ||
      within + uint64_t{entry.length} * kSectorBytes > record.length)
    return EBADMSG;

  auto at = static_cast<uint32_t>(record.payload_offset + within + from);
  for (size_t index = chunk_at(view, at); length > 0; ++index) {
    const auto chunk = cache_.chunk(place, **tables, index);
    if (!chunk.ok()) return errno_of(chunk.error());
    const uint32_t skipped = at - view.chunks[index].raw_offset;
    const uint64_t bytes = std::min<uint64_t>(length, (*chunk)->size() - skipped);
    std::memcpy(into, (*chunk)->data() + skipped, bytes);
    into += bytes;
    at += static_cast<uint32_t>(bytes);
    length -= bytes;
  }
  return 0;
}

Errno PointInTimeDevice::allocation_of_base(const Stretch& stretch,
                                            std::vector<std::pair<Stretch, bool>>* parts) const {
  const uint64_t end = (stretch.start + stretch.length) * kSectorBytes;
  for (uint64_t at = stretch.start * kSectorBytes; at < end;) {
    const off_t data =
        at < base_->file_bytes() ? ::lseek(base_->fd(), static_cast<off_t>(at), SEEK_DATA) : -1;
    if (data < 0 && at < base_->file_bytes() && errno != ENXIO) return EIO;
    // A sector with any data in it is data.
    const uint64_t data_at =
        data < 0 ? end : std::min(end, static_cast<uint64_t>(data) / kSectorBytes * kSectorBytes);
    if (data_at > at) parts->push_back({{at / kSectorBytes, (data_at - at) / kSectorBytes}, true});
    if (data_at == end) return 0;
    const off_t hole = ::lseek(base_->fd(), data, SEEK_HOLE);
    if (hole < 0) return EIO;
    const uint64_t until =
        std::min(end, (static_cast<uint64_t>(hole) + kSectorBytes - 1) / kSectorBytes * kSectorBytes);
    parts->push_back({{data_at / kSectorBytes, (until - data_at) / kSectorBytes}, false});
    at = until;
  }
  return 0;
}

Errno PointInTimeDevice::journaled(uint64_t offset, uint64_t length,
                                   std::vector<Journaled>* stretches) const {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  stretches->clear();
  Resolved resolved;
  if (const Errno error = resolve(offset / kSectorBytes, length / kSectorBytes, &resolved)) return error;
  std::sort(resolved.entries.begin(), resolved.entries.end(),
            [](const RunEntry& a, const RunEntry& b) { return a.start < b.start; });
  for (const RunEntry& entry : resolved.entries) {
    const Journaled next{entry.start * kSectorBytes, uint64_t{entry.length} * kSectorBytes, entry.is_zero()};
    if (!stretches->empty() && stretches->back().is_zero == next.is_zero &&
        stretches->back().offset + stretches->back().length == next.offset)
      stretches->back().length += next.length;
    else
      stretches->push_back(next);
  }
  return 0;
}

Errno PointInTimeDevice::allocation(uint64_t offset, uint64_t length,
                                    std::vector<AllocationExtent>* extents) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  extents->clear();
  if (length == 0) return 0;
  const uint64_t end = offset + length;
  const uint64_t last = (end + kSectorBytes - 1) / kSectorBytes;
  std::vector<std::pair<Stretch, bool>> parts;  // true: a hole
  for (uint64_t start = offset / kSectorBytes; start < last; start += kAllocationSectors) {
    Resolved resolved;
    if (const Errno error = resolve(start, std::min(kAllocationSectors, last - start), &resolved))
      return error;
    parts.clear();
    for (const RunEntry& entry : resolved.entries)
      parts.push_back({{entry.start, entry.length}, entry.is_zero()});
    for (const Stretch& stretch : resolved.base)
      if (const Errno error = allocation_of_base(stretch, &parts)) return error;
    std::sort(parts.begin(), parts.end(),
              [](const auto& a, const auto& b) { return a.first.start < b.first.start; });
    for (const auto& [stretch, is_hole] : parts) {
      const uint64_t from = std::max(offset, stretch.start * kSectorBytes);
      const uint64_t bytes = std::min(end, (stretch.start + stretch.length) * kSectorBytes) - from;
      if (!extents->empty() && extents->back().hole == is_hole)
        extents->back().length += bytes;
      else
        extents->push_back({bytes, is_hole, is_hole});
    }
  }
  return 0;
}

}  // namespace afterimage
