#include "journal/stream_position.h"

#include <string>

namespace afterimage {
namespace {

std::string expected(const char* what, uint64_t got, uint64_t wanted) {
  return std::string("frame: ") + what + " " + std::to_string(got) + ", expected " + std::to_string(wanted);
}

/// Times rise within an era, and an era begins with the clock record that announces it (FORMAT.md, "Time"): a
/// point by time is searched for on that condition. Null, or what breaks it.
const char* fault_in_time(const StreamPosition& position, const FrameView& frame) {
  if (position.era == 0) return nullptr;
  const FrameHeader& header = *frame.header;
  if (header.era < position.era) return "the era falls";
  if (header.era == position.era)
    return header.first_time_ns > position.last_time_ns ? nullptr : "times do not rise within the era";
  return static_cast<RecordKind>(frame.records.front().kind) == RecordKind::kClock
             ? nullptr
             : "an era begins without its clock record";
}

}  // namespace

Outcome StreamPosition::follow(const FrameView& frame) {
  const FrameHeader& header = *frame.header;
  if (header.epoch != epoch) return Error{"FRAME_FENCED", expected("epoch", header.epoch, epoch)};
  if (header.generation != generation)
    return Error{"FRAME_GENERATION", expected("generation", header.generation, generation)};
#ifndef AFTERIMAGE_SABOTAGE_ACCEPT_GAP  // breaks R5: frames may be missing, or of another history
  if (header.first_lsn <= last_lsn)
    return Error{"FRAME_REPEATED", expected("first LSN", header.first_lsn, last_lsn + 1)};
  if (header.first_lsn != last_lsn + 1)
    return Error{"FRAME_GAP", expected("first LSN", header.first_lsn, last_lsn + 1)};
  if (header.link != link) return Error{"FRAME_LINK", expected("link", header.link, link)};
#endif
  if (const char* fault = fault_in_time(*this, frame))
    return Error{"RECORD_INVALID", std::string("frame: ") + fault};
  if (const char* fault = volumes.apply(frame.records))
    return Error{"RECORD_INVALID", std::string("frame: ") + fault};
  last_lsn = header.last_lsn;
  link = header.header_crc32c;
  era = header.era;
  last_time_ns = header.last_time_ns;
  return Nothing{};
}

Outcome StreamPosition::begin_generation(uint64_t next_epoch, uint64_t next_generation, uint64_t first_lsn,
                                         std::span<const SegmentVolume> next_volumes) {
  if (next_epoch < epoch) return Error{"FRAME_FENCED", expected("epoch", next_epoch, epoch)};
  if (next_generation <= generation)
    return Error{"FRAME_GENERATION", expected("generation", next_generation, generation + 1)};
  if (first_lsn <= last_lsn) return Error{"FRAME_REPEATED", expected("first LSN", first_lsn, last_lsn + 1)};
  if (const char* fault = VolumeTable::fault(next_volumes))
    return Error{"RECORD_INVALID", std::string("generation: ") + fault};
  *this = {.epoch = next_epoch,
           .generation = next_generation,
           .last_lsn = first_lsn - 1,
           .link = 0,
           .era = 0,
           .last_time_ns = 0,
           .volumes = VolumeTable(next_volumes)};
  return Nothing{};
}

}  // namespace afterimage
