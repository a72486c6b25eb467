#include <cerrno>
#include <cstring>
#include <string>

#include "journal/run.h"
#include "journal/segment_cursor.h"

namespace afterimage {
namespace {

/// Neighbours that could be one extent as one: how extents are cut is not fixed.
std::vector<RunEntry> joined(const std::vector<RunEntry>& entries) {
  std::vector<RunEntry> result;
  for (const RunEntry& entry : entries) {
    RunEntry* last = result.empty() ? nullptr : &result.back();
    const bool follows = last != nullptr && last->end() == entry.start && last->segment == entry.segment &&
                         last->frame_offset == entry.frame_offset && last->record == entry.record &&
                         (entry.is_zero() || last->record_sector + last->length == entry.record_sector) &&
                         uint64_t{last->length} + entry.length <= kExtentSectorsMax;
    if (follows)
      last->length += entry.length;
    else
      result.push_back(entry);
  }
  return result;
}

}  // namespace

Result<std::string> run_fault(const SegmentInfo& segment, const std::string& run_path) {
  const auto opened = Run::open(run_path);
  if (!opened.ok()) {
    if (std::strcmp(opened.error().code, "IO_ERROR") == 0 && opened.error().sys != EIO) return opened.error();
    return opened.error().message;
  }
  const Run& run = **opened;
  if (run.segments().size() != 1 || !run.segments().front().is(segment))
    return run_path + ": is of another segment";
  const auto cursor = SegmentCursor::open(segment.path, SegmentCursor::Depth::kTables, kSegmentHeaderBytes);
  if (!cursor.ok()) return cursor.error();
  const SegmentHeader& source = (*cursor)->header();
  if (run.group() != source.group || run.member() != source.member)
    return run_path + ": is of another member";
  const auto maps = index_segment(segment, segment.last_lsn);
  if (!maps.ok()) return maps.error();
  if (run.volumes().size() != maps->size()) return run_path + ": lists other volumes than its segment";
  for (const RunVolume& volume : run.volumes()) {
    const auto map = maps->find(volume.number);
    bool is_listed = map != maps->end();
    for (const SegmentVolume& listed : std::span(source.volumes, source.volume_count))
      if (listed.number == volume.number && listed.uuid != volume.uuid) is_listed = false;
    if (!is_listed) return run_path + ": lists other volumes than its segment";
    std::vector<RunEntry> expected, found;
    if (Outcome looked = run.lookup(volume.number, 0, kSectorsMax, &found); !looked.ok())
      return looked.error().message;
    map->second.lookup(0, kSectorsMax, &expected);
    if (joined(found) != joined(expected))
      return run_path + ": names other records for volume " + std::to_string(volume.number) +
             " than its segment holds";
  }
  return std::string();
}

}  // namespace afterimage
