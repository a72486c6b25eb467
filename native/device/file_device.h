// FileDevice: a block device or regular file as a BlockDevice. The lowest layer of the protected path, the
// base image's reader, and the target of `recover`.
//
// Threads: as BlockDevice. In direct mode requests that are not aligned to the block size take an exclusive
// lock for their read-modify-write; aligned ones share it and do not wait for each other. Ownership: owns its
// descriptor and its lock on the file until destroyed.
#pragma once

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <string>

#include "device/block_device.h"
#include "os/fd.h"

namespace afterimage {

class FileDevice final : public BlockDevice {
 public:
  enum class Cache { kBuffered, kDirect };
  struct Options {
    Cache cache = Cache::kBuffered;
    bool read_only = false;
    /// Block devices: O_EXCL (fails while mounted or held by device-mapper, another agent, …).
    /// Files: an exclusive open-file-description lock (F_OFD_SETLK), which other agents respect.
    bool exclusive = true;
  };

  /// Errors: BACKING_MISSING (no such file), BACKING_BUSY (mounted, locked or held), BACKING_INVALID (neither
  /// file nor block device, empty, or not a multiple of 512 bytes), IO_ERROR.
  static Result<std::unique_ptr<FileDevice>> open(const std::string& path, const Options& options);
  ~FileDevice() override;

  uint64_t size() const override { return size_; }
  uint32_t block_size() const override { return block_size_; }
  bool read_only() const override { return read_only_; }
  bool can_fast_zero() const override;
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override;
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override;
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  /// After one failed flush every later one fails with EIO until the device is reopened: the kernel reports a
  /// lost write-back only once, and a later success would acknowledge data that never reached the disk.
  Errno flush() override;
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override;

 private:
  FileDevice() = default;
  // (private members as the implementation needs)
  Fd fd_;
  uint64_t size_ = 0;
  uint32_t block_size_ = kSectorBytes;
  bool read_only_ = false;
  bool direct_ = false;
  bool is_block_device_ = false;
  std::atomic<bool> flush_failed_{false};
  std::shared_mutex unaligned_;
};

}  // namespace afterimage
