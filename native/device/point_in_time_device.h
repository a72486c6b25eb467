// PointInTimeDevice: one volume as it was at one LSN: exactly the records with LSN ≤ that point applied to
// the base (R3). Read-only. The base image, overlaid with the runs that tile [base, point] and the extent map
// of the one partial segment; searched newest first.
//
// Threads: as BlockDevice. Caches (parsed frame tables, decompressed chunks) are bounded and behind a mutex
// that is not held during I/O or decompression. Ownership: opens and owns its descriptors, so that the files
// may be unlinked while it is open.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "journal/run.h"
#include "journal/segment.h"

namespace afterimage {

struct PointSource {
  std::string base_path;  // sparse image of the volume; bytes beyond its end read as zero
  uint64_t size = 0;      // of the volume, bytes
  uint32_t block_size = kSectorBytes;
  uint16_t volume = 0;  // number in the member's stream
  uint64_t lsn = 0;
  struct Tile {
    SegmentInfo segment;
    std::string run_path;  // "" if none was built (yet): the segment's tables are scanned instead
  };
  std::vector<Tile> tiles;  // ascending LSN; the last may contain `lsn` in its middle
};

class PointInTimeDevice : public BlockDevice {
 public:
  /// Errors: POINT_UNKNOWN, SEGMENT_CORRUPT, BASE_MISSING, IO_ERROR. A corrupt or missing run is not an
  /// error: its segment is scanned instead. Reads that meet a damaged chunk answer EIO, never wrong bytes.
  static Result<std::unique_ptr<PointInTimeDevice>> open(const PointSource& source);
};

}  // namespace afterimage
