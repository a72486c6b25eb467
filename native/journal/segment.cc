#include "journal/segment.h"

#include <cstdio>
#include <cstring>

#include "journal/segment_cursor.h"
#include "journal/volume_table.h"
#include "os/crc32c.h"

namespace afterimage {
namespace {

constexpr uint16_t kSegmentVersion = 1;

Error corrupt(const SegmentInfo& segment, const SegmentCursor& cursor) {
  return Error{"SEGMENT_CORRUPT",
               segment.path + ": at byte " + std::to_string(cursor.position()) + ": " +
                   (cursor.stop_reason().empty() ? "ends too early" : cursor.stop_reason())};
}

}  // namespace

void extend(SegmentInfo* info, const FrameHeader& frame) {
  if (info->frames == 0) {
    info->first_time_ns = frame.first_time_ns;
    info->first_era = frame.era;
  }
  info->last_lsn = frame.last_lsn;
  info->last_time_ns = frame.last_time_ns;
  info->last_era = frame.era;
  info->frames += 1;
  info->records += frame.record_count;
  info->raw_bytes += frame.raw_bytes;
  info->bytes += frame.frame_bytes;
  info->link = frame.header_crc32c;
}

const char* segment_header_fault(const SegmentHeader& header, const char** code) {
  *code = "SEGMENT_CORRUPT";
  if (std::memcmp(header.magic, kSegmentMagic, sizeof(kSegmentMagic)) != 0) return "magic";
  if (crc32c(&header, offsetof(SegmentHeader, header_crc32c)) != header.header_crc32c) return "checksum";
  if (header.version != kSegmentVersion || header.header_bytes != kSegmentHeaderBytes ||
      (header.flags & kFlagsCritical) != 0) {
    *code = "SEGMENT_VERSION";
    return "written by another version";
  }
  if (header.first_lsn == 0) return "first LSN";
  if (header.volume_count > kVolumeNumberMax + 1u) return "volume count";
  return VolumeTable::fault({header.volumes, header.volume_count});
}

std::string segment_path(const std::string& directory, uint64_t first_lsn) {
  char name[32];
  std::snprintf(name, sizeof(name), "/%020llu.seg", static_cast<unsigned long long>(first_lsn));
  return directory + name;
}

Result<SegmentScan> scan_segment(const std::string& path, bool check_payload) {
  auto opened = SegmentCursor::open(
      path, check_payload ? SegmentCursor::Depth::kPayload : SegmentCursor::Depth::kTables);
  if (!opened.ok()) return opened.error();
  SegmentCursor& cursor = **opened;
  const SegmentHeader& header = cursor.header();
  SegmentScan scan;
  scan.group = header.group;
  scan.member = header.member;
  scan.first_link = header.link;
  scan.file_bytes = cursor.file_bytes();
  scan.info.path = path;
  scan.info.generation = header.generation;
  scan.info.first_lsn = header.first_lsn;
  scan.info.last_lsn = header.first_lsn - 1;
  scan.info.link = header.link;
  scan.info.bytes = kSegmentHeaderBytes;
  VolumeTable volumes({header.volumes, header.volume_count});
  for (;;) {
    const auto more = cursor.next();
    if (!more.ok()) return more.error();
    if (!*more) break;
    if (const char* fault = volumes.apply(cursor.frame().records)) {
      scan.stop_reason = std::string("RECORD_INVALID: ") + fault;
      break;
    }
    extend(&scan.info, *cursor.frame().header);
  }
  if (scan.stop_reason.empty()) scan.stop_reason = cursor.stop_reason();
  scan.stop_offset = scan.info.bytes;
  scan.volumes = volumes.list();
  scan.info.sealed = scan.stop_reason.empty() && cursor.file_bytes() == scan.info.bytes;
  return scan;
}

Result<uint64_t> lsn_at_time(const SegmentInfo& segment, uint64_t time_ns, uint32_t era) {
  auto opened = SegmentCursor::open(segment.path, SegmentCursor::Depth::kTables, segment.bytes);
  if (!opened.ok()) return opened.error();
  SegmentCursor& cursor = **opened;
  uint64_t lsn = segment.first_lsn - 1;
  for (;;) {
    const auto more = cursor.next();
    if (!more.ok()) return more.error();
    if (!*more) break;
    const FrameHeader& header = *cursor.frame().header;
    if ((era != 0 && header.era != era) || header.first_time_ns > time_ns) continue;
    uint64_t record = header.record_count;
    while (record > 0 && cursor.frame().records[record - 1].time_ns > time_ns) --record;
    if (record > 0) lsn = header.first_lsn + record - 1;
  }
  if (cursor.position() != segment.bytes) return corrupt(segment, cursor);
  return lsn;
}

Result<uint64_t> time_at_lsn(const SegmentInfo& segment, uint64_t lsn) {
  if (lsn < segment.first_lsn || lsn > segment.last_lsn)
    return Error{"POINT_UNKNOWN", segment.path + " does not hold LSN " + std::to_string(lsn)};
  auto opened = SegmentCursor::open(segment.path, SegmentCursor::Depth::kTables, segment.bytes);
  if (!opened.ok()) return opened.error();
  SegmentCursor& cursor = **opened;
  for (;;) {
    const auto more = cursor.next();
    if (!more.ok()) return more.error();
    if (!*more) return corrupt(segment, cursor);
    const FrameHeader& header = *cursor.frame().header;
    if (lsn >= header.first_lsn && lsn <= header.last_lsn)
      return cursor.frame().records[lsn - header.first_lsn].time_ns;
  }
}

}  // namespace afterimage
