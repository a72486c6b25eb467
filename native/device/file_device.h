// FileDevice: a block device or regular file as a BlockDevice. The lowest layer of the protected path, the
// base image's reader, and the target of `recover`.
//
// Threads: as BlockDevice. In direct mode requests that are not aligned to the block size take an exclusive
// lock for their read-modify-write; aligned ones share it and do not wait for each other.
// Ownership: owns its descriptor and its lock on the file until destroyed.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "device/block_device.h"
#include "os/fd.h"
#include "os/past_cache.h"

namespace afterimage {

class FileDevice final : public BlockDevice {
 public:
  /// Direct: past the page cache. A file falls back to buffered where its file system has no direct I/O, or
  /// where its size is not a multiple of the alignment this needs; direct() tells.
  enum class Cache { kBuffered, kDirect };
  struct Options {
    Cache cache = Cache::kBuffered;
    bool read_only = false;
    /// Block devices: O_EXCL (fails while mounted or held by device-mapper, another agent, …).
    /// Files: an open-file-description lock (F_OFD_SETLK), which other agents respect: a write lock, or for a
    /// read-only device a read lock, which excludes writers alone.
    bool exclusive = true;
    /// The size to have, whatever is there; 0: as much as is there.
    uint64_t size = 0;
    /// A file of that inode, which is looked at before anything is opened; 0: whatever is there.
    uint64_t inode = 0;
  };

  /// Errors: BACKING_MISSING (no such file), BACKING_REPLACED (of another inode, or no file), BACKING_BUSY
  /// (mounted, locked or held), BACKING_INVALID (neither file nor block device, empty, or not a multiple of
  /// 512 bytes), PERMISSION_DENIED, IO_ERROR.
  static Result<std::unique_ptr<FileDevice>> open(const std::string& path, const Options& options);
  ~FileDevice() override;

  uint64_t size() const override { return size_; }
  uint32_t block_size() const override { return block_size_; }
  bool read_only() const override { return read_only_; }
  /// True where fallocate zeroes without writing: from the file system, or from what the block device claims.
  bool can_fast_zero() const override { return fast_zero_; }
  Result<uint64_t> remeasure() override;
  bool direct() const { return direct_; }
  Errno prepare_thread() override;
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override;
  /// os/past_cache.h; where it cannot be done, as read().
  Errno read_past_cache(uint64_t offset, uint64_t length, std::byte* into) override;
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override;
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  /// After one failed flush every later one fails with EIO until the device is reopened: the kernel reports a
  /// lost write-back only once, and a later success would acknowledge data that never reached the disk.
  /// Writes with FUA count as flushes here.
  Errno flush() override;
  bool has_flush_failed() const override { return flush_failed_; }
  void forget_cached() override;
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override;

 private:
  FileDevice() = default;
  /// Bytes that are there. Errors: IO_ERROR.
  Result<uint64_t> bytes_there() const;
  /// What open() finds out about the descriptor, in order.
  Outcome measure(const std::string& path, uint64_t size);
  Outcome lock_file(const std::string& path);
  void measure_direct_io();
  void measure_fast_zero();

  bool is_aligned(uint64_t offset, uint64_t length) const;
  Errno write_at(uint64_t offset, uint64_t length, const std::byte* from, int flags);
  Errno write_durably(uint64_t offset, uint64_t length, const std::byte* from);
  Errno write_direct(uint64_t offset, uint64_t length, const std::byte* from, int flags);
  Errno write_through_bounce(uint64_t offset, uint64_t length, const std::byte* from, int flags);
  Errno write_zeroes(uint64_t offset, uint64_t length);
  Errno zero_blocks(uint64_t offset, uint64_t length, const RequestOptions& options);

  Fd fd_;
  PastCache past_cache_;  // in buffered mode
  std::atomic<uint64_t> size_{0};
  uint32_t block_size_ = kSectorBytes;
  bool read_only_ = false;
  bool direct_ = false;
  bool is_block_device_ = false;
  uint32_t alignment_ = 1;         // of offset and length, in direct mode; size_ is a multiple of it
  uint32_t memory_alignment_ = 1;  // of buffers, in direct mode
  uint32_t zero_unit_ = 1;         // fallocate is given whole units of this only
  std::atomic<bool> fast_zero_{false};

  std::atomic<bool> flush_failed_{false};
  std::atomic<uint64_t> flushes_begun_{0};
  std::mutex sync_;  // of all calls that may consume the kernel's one report of a lost write-back
  std::shared_mutex unaligned_;
};

}  // namespace afterimage
