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

#include "device/base_reader.h"
#include "device/block_device.h"
#include "journal/frame_cache.h"
#include "journal/segment.h"
#include "journal/segment_index.h"

namespace afterimage {

/// Each tile holds a descriptor of its segment and one of its run, for as long as the point is open.
constexpr uint32_t kPointTilesMax = 1u << 16;      // 4 TiB of journal in segments of 64 MiB
constexpr uint32_t kIndexPagesKeptMax = 1u << 14;  // of 4 KiB, of all runs of a point together
static_assert(kPointTilesMax <= kSegmentNumbersMax, "a cache's name for a segment");

struct PointSource {
  std::string base_path;  // sparse image of the volume; bytes beyond its end read as zero
  uint64_t size = 0;      // of the volume, bytes
  uint32_t block_size = kSectorBytes;
  uint16_t volume = 0;  // number in the member's stream
  uint64_t lsn = 0;
  struct Tile {
    SegmentInfo segment;
    std::string run_path;        // "" if none was built (yet): the segment's tables are scanned instead
    bool is_after_hole = false;  // records before it are known to be lost: the caller vouches that a later
                                 // resync made up for them
  };
  std::vector<Tile> tiles;  // ascending LSN; the last may contain `lsn` in its middle
};

class PointInTimeDevice final : public BlockDevice {
 public:
  /// Errors: POINT_UNKNOWN, POINT_TOO_LONG, SEGMENT_CORRUPT, SEGMENT_VERSION, BASE_MISSING, FILE_LIMIT,
  /// IO_ERROR. A corrupt, stale or missing run is not an error, nor is one of which a page is damaged or
  /// cannot be read, now or later: its segment is scanned instead. Reads that meet a damaged chunk, frame or
  /// block of the base answer EBADMSG (front ends: EIO), never wrong bytes.
  static Result<std::unique_ptr<PointInTimeDevice>> open(const PointSource& source);

  uint64_t size() const override { return size_; }
  uint32_t block_size() const override { return block_size_; }
  bool read_only() const override { return true; }
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override {
    return read_over(&BaseReader::read, offset, length, into);
  }
  /// Of what comes from the base.
  Errno read_past_cache(uint64_t offset, uint64_t length, std::byte* into) override {
    return read_over(&BaseReader::read_past_cache, offset, length, into);
  }
  Errno write(uint64_t, uint64_t, const std::byte*, const RequestOptions&) override { return EPERM; }
  Errno zero(uint64_t, uint64_t, const RequestOptions&) override { return EPERM; }
  Errno trim(uint64_t, uint64_t, const RequestOptions&) override { return EPERM; }
  Errno flush() override { return 0; }
  /// Holes of the base and zero extents are holes that read as zeroes; all else is data.
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override;

  /// A stretch of bytes that records set: what it holds is not the base's.
  struct Journaled {
    uint64_t offset;
    uint64_t length;
    bool is_zero;
  };
  /// Those within [offset, offset + length), both multiples of kSectorBytes, ascending, neighbours of a kind
  /// joined.
  Errno journaled(uint64_t offset, uint64_t length, std::vector<Journaled>* stretches) const;

  /// Offsets of blocks of the base that reads have found damaged.
  std::vector<uint64_t> bad_base_offsets() const { return base_->bad_offsets(); }

 private:
  struct Stretch {  // of sectors
    uint64_t start;
    uint64_t length;
  };
  /// Where a range comes from: each sector in exactly one of them.
  struct Resolved {
    std::vector<RunEntry> entries;  // RunEntry::segment is an index into segments_
    std::vector<Stretch> base;
  };

  PointInTimeDevice() = default;
  using ReadBase = Errno (BaseReader::*)(uint64_t offset, uint64_t length, std::byte* into);
  Errno read_over(ReadBase read_base, uint64_t offset, uint64_t length, std::byte* into);
  Errno resolve(uint64_t start, uint64_t length, Resolved* resolved) const;
  /// Bytes [from, from + length) of an entry's sectors.
  Errno read_entry(const RunEntry& entry, uint64_t from, uint64_t length, std::byte* into);
  Errno allocation_of_base(const Stretch& stretch, std::vector<std::pair<Stretch, bool>>* parts) const;

  uint64_t size_ = 0;
  uint32_t block_size_ = kSectorBytes;
  uint16_t volume_ = 0;
  uint64_t lsn_ = 0;
  std::unique_ptr<BaseReader> base_;
  std::vector<std::unique_ptr<SegmentIndex>> segments_;  // oldest first
  FrameCache cache_;
};

}  // namespace afterimage
