#include "journal/extent_map.h"

#include <algorithm>

#include "device/block_device.h"
#include "journal/segment_cursor.h"
#include "journal/volume_table.h"
#include "os/assert.h"

namespace afterimage {
namespace {

static_assert(kRecordsPerFrameMax - 1 <= UINT16_MAX && kRecordBytesMax / kSectorBytes - 1 <= UINT16_MAX);
static_assert(kVolumeBytesMax / kSectorBytes <= kSectorsMax);

/// Calls map_of(volume) for the map that a record's effect goes to, or null to leave it out.
template <typename MapOf>
Outcome index_records(const SegmentInfo& segment, uint64_t lsn_max, MapOf map_of) {
  auto opened = SegmentCursor::open(segment.path, SegmentCursor::Depth::kTables, segment.bytes);
  if (!opened.ok()) return opened.error();
  SegmentCursor& cursor = **opened;
  if (cursor.header().first_lsn != segment.first_lsn || cursor.header().generation != segment.generation)
    return Error{"SEGMENT_CORRUPT", segment.path + ": another segment lies there"};
  VolumeTable volumes({cursor.header().volumes, cursor.header().volume_count});
  const uint64_t last = std::min(lsn_max, segment.last_lsn);
  for (uint64_t next = segment.first_lsn; next <= last;) {
    const auto more = cursor.next();
    if (!more.ok()) return more.error();
    const std::string at = segment.path + ": at byte " + std::to_string(cursor.position()) + ": ";
    if (!*more)
      return Error{"SEGMENT_CORRUPT",
                   at + (cursor.stop_reason().empty() ? "ends too early" : cursor.stop_reason())};
    const FrameView& frame = cursor.frame();
    const uint64_t first = frame.header->first_lsn;
    const auto records = frame.records.first(std::min<uint64_t>(frame.records.size(), last - first + 1));
    for (uint32_t i = 0; i < records.size(); ++i) {
      const RecordEntry& record = records[i];
      const SegmentVolume* before = volumes.find(record.volume);
      const uint64_t size_before = before == nullptr ? 0 : before->size;
      if (const char* fault = volumes.apply(records.subspan(i, 1)))
        return Error{"SEGMENT_CORRUPT", at + fault};
      ExtentMap* map = map_of(record.volume);
      if (map == nullptr) continue;
      switch (static_cast<RecordKind>(record.kind)) {
        case RecordKind::kWrite:
          map->insert({.start = record.offset / kSectorBytes,
                       .length = record.length / kSectorBytes,
                       .segment = 0,
                       .frame_offset = cursor.frame_offset(),
                       .record = i,
                       .record_sector = 0});
          break;
        case RecordKind::kZero:
          map->insert_zero(record.offset / kSectorBytes, record.length / kSectorBytes);
          break;
        case RecordKind::kResize:
        case RecordKind::kMembership:
          if (record.offset < size_before)  // what is cut off is gone, also if the volume grows again
            map->insert_zero(record.offset / kSectorBytes, (size_before - record.offset) / kSectorBytes);
          break;
        default:
          break;
      }
    }
    next = frame.header->last_lsn + 1;
  }
  return Nothing{};
}

}  // namespace

RunEntry RunEntry::clipped(uint64_t from, uint64_t until) const {
  RunEntry part = *this;
  part.start = std::max(start, from);
  part.length = static_cast<uint32_t>(std::min(end(), until) - part.start);
  if (!is_zero()) part.record_sector += static_cast<uint32_t>(part.start - start);
  return part;
}

RunEntry ExtentMap::entry_of(const Extents::value_type& extent) {
  const auto& [start, where] = extent;
  return {.start = start,
          .length = where.length,
          .segment = where.segment,
          .frame_offset = where.frame_offset,
          .record = where.record,
          .record_sector = where.record_sector};
}

void ExtentMap::place(const RunEntry& entry) {
  extents_[entry.start] = {.length = entry.length,
                           .segment = entry.segment,
                           .frame_offset = entry.frame_offset,
                           .record = static_cast<uint16_t>(entry.record),
                           .record_sector = static_cast<uint16_t>(entry.record_sector)};
}

void ExtentMap::carve(uint64_t start, uint64_t end) {
  auto at = extents_.lower_bound(start);
  if (at != extents_.begin()) {
    const RunEntry before = entry_of(*std::prev(at));
    if (before.end() > start) {
      place(before.clipped(before.start, start));
      if (before.end() > end) place(before.clipped(end, before.end()));
    }
  }
  while (at != extents_.end() && at->first < end) {
    const RunEntry covered = entry_of(*at);
    at = extents_.erase(at);
    if (covered.end() > end) place(covered.clipped(end, covered.end()));
  }
}

void ExtentMap::insert(const RunEntry& entry) {
  AFTERIMAGE_ASSERT(entry.length > 0 && entry.length <= kExtentSectorsMax && entry.start < kSectorsMax,
                    "an index entry's bits");
  carve(entry.start, entry.end());
  place(entry);
}

void ExtentMap::insert_zero(uint64_t start, uint64_t length) {
  while (length > 0) {
    const uint64_t piece = std::min<uint64_t>(length, kExtentSectorsMax);
    insert({.start = start, .length = static_cast<uint32_t>(piece)});
    start += piece;
    length -= piece;
  }
}

void ExtentMap::lookup(uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const {
  const uint64_t end = start + length;
  auto at = extents_.upper_bound(start);
  if (at != extents_.begin() && entry_of(*std::prev(at)).end() > start) --at;
  for (; at != extents_.end() && at->first < end; ++at) entries->push_back(entry_of(*at).clipped(start, end));
}

Result<std::unique_ptr<ExtentMap>> index_segment(const SegmentInfo& segment, uint16_t volume,
                                                 uint64_t lsn_max) {
  auto map = std::make_unique<ExtentMap>();
  Outcome indexed = index_records(segment, lsn_max,
                                  [&](uint16_t number) { return number == volume ? map.get() : nullptr; });
  if (!indexed.ok()) return indexed.error();
  return map;
}

Result<std::map<uint16_t, ExtentMap>> index_segment(const SegmentInfo& segment, uint64_t lsn_max) {
  std::map<uint16_t, ExtentMap> maps;
  Outcome indexed = index_records(segment, lsn_max, [&](uint16_t number) { return &maps[number]; });
  if (!indexed.ok()) return indexed.error();
  std::erase_if(maps, [](const auto& map) { return map.second.size() == 0; });
  return maps;
}

}  // namespace afterimage
