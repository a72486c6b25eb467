// StreamPosition: where a member's stream stands, and whether a frame continues it. The gate of R5: what this
// refuses never reaches the disk.
//
// Threads: a value; no sharing.
#pragma once

#include <cstdint>
#include <span>

#include "journal/frame.h"
#include "journal/volume_table.h"
#include "os/result.h"

namespace afterimage {

struct StreamPosition {
  uint64_t epoch = 0;
  uint64_t generation = 0;
  uint64_t last_lsn = 0;      // the next frame begins at last_lsn + 1
  uint32_t link = 0;          // header_crc32c of the last frame in this generation, 0 if none
  uint32_t era = 0;           // of the last frame in this generation; 0: none is known
  uint64_t last_time_ns = 0;  // of its last record
  VolumeTable volumes{};      // after last_lsn

  /// Moves behind the frame if it continues the stream exactly; otherwise nothing changes.
  /// Errors: FRAME_FENCED, FRAME_GENERATION, FRAME_REPEATED, FRAME_GAP, FRAME_LINK, RECORD_INVALID.
  Outcome follow(const FrameView& frame);
  /// Begins a generation above this one. Errors: FRAME_FENCED, FRAME_GENERATION, FRAME_REPEATED,
  /// RECORD_INVALID.
  Outcome begin_generation(uint64_t next_epoch, uint64_t next_generation, uint64_t first_lsn,
                           std::span<const SegmentVolume> next_volumes);
};

}  // namespace afterimage
