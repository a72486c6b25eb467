// OverlayDevice: copy-on-write scratch over a read-only lower device, for a writable export. What is written
// goes to an unlinked sparse file and is gone with the device.
//
// The scratch shares its file system with the journal as a rule: writes end with ENOSPC while there is still
// some reserve, so that an export that is written to without end does not stop ingest (R6).
//
// flush() and FUA succeed without reaching the disk: nothing of the scratch is meant to outlive the process,
// and reads are served from what the process wrote.
//
// Threads: as BlockDevice; the first write of a 4 KiB block excludes others of that block (striped locks), so
// that the copy of what lies beside a partial write cannot undo a neighbour's. A block once copied needs no
// lock.
// Ownership: shares the lower device; owns the scratch file.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "device/file_device.h"
#include "os/fd.h"

namespace afterimage {

constexpr uint32_t kOverlayBlockBytes = 4096;
/// What an overlay leaves free: a twentieth of the file system and 1 GiB at least, but never more than a
/// quarter.
constexpr uint64_t kOverlayReserveBytesMin = 1ull << 30;
constexpr uint64_t kOverlayReserveShare = 20;
constexpr uint64_t kOverlayReserveShareMax = 4;
/// The file system is asked again after so many bytes: by so much, and what is in flight, the reserve can be
/// overdrawn.
constexpr uint64_t kOverlayReserveCheckBytes = 4ull << 20;
static_assert(kOverlayReserveCheckBytes < kOverlayReserveBytesMin);

/// Of a file system of `bytes`.
constexpr uint64_t overlay_reserve(uint64_t bytes) {
  return std::min(std::max(bytes / kOverlayReserveShare, kOverlayReserveBytesMin),
                  bytes / kOverlayReserveShareMax);
}

class OverlayDevice final : public BlockDevice {
 public:
  /// `scratch_directory` must exist and be writable; the scratch file is created there (O_TMPFILE, or created
  /// and unlinked). Errors: SCRATCH_UNAVAILABLE.
  static Result<std::unique_ptr<OverlayDevice>> create(std::shared_ptr<BlockDevice> lower,
                                                       const std::string& scratch_directory);

  uint64_t size() const override { return size_; }
  uint32_t block_size() const override { return lower_->block_size(); }
  bool read_only() const override { return false; }
  bool can_fast_zero() const override { return scratch_->can_fast_zero(); }
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override;
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override;
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  Errno flush() override { return 0; }
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override;

 private:
  static constexpr uint64_t kRegionBytes = 1 << 20;  // what one lock guards at a time
  static constexpr size_t kStripes = 64;
  static constexpr uint64_t kWordBlocks = 64;
  static_assert(kRegionBytes % kOverlayBlockBytes == 0);

  OverlayDevice(std::shared_ptr<BlockDevice> lower, std::unique_ptr<FileDevice> scratch, Fd file);

  bool is_copied(uint64_t block) const;
  void mark_copied(uint64_t first, uint64_t last);
  /// Length of the stretch from `offset`, at most `length` bytes, whose blocks are all copied or all not.
  uint64_t stretch(uint64_t offset, uint64_t length, bool* copied) const;
  /// Carries out store(offset, length) on the scratch in pieces, each with its blocks' other bytes copied up
  /// before.
  template <typename Store>
  Errno modify(uint64_t offset, uint64_t length, Store store);
  /// ENOSPC when `bytes` more would eat into the reserve. Overwriting counts too: what was zeroed is a hole.
  Errno take_space(uint64_t bytes);
  /// Gives the scratch all of `block` as the lower device has it. Under the block's lock.
  Errno copy_up(uint64_t block);

  std::shared_ptr<BlockDevice> lower_;
  std::unique_ptr<FileDevice> scratch_;
  const Fd file_;                                                     // the scratch's
  std::atomic<uint64_t> unchecked_bytes_{kOverlayReserveCheckBytes};  // since the file system was asked
  const uint64_t size_;
  /// One bit per block: the scratch, not the lower device, holds it. Set after the data is there, never
  /// cleared.
  std::vector<std::atomic<uint64_t>> copied_;
  std::array<std::mutex, kStripes> stripes_;
};

}  // namespace afterimage
