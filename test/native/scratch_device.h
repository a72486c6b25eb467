// ScratchDevice: a BlockDevice over an unnamed memory file, which remembers how it was called. Front-end
// tests serve it.
//
// Threads: as BlockDevice; set_failure() at any time, set_marks_executed() before use.
// Ownership: owns its file.
#pragma once

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "device/block_device.h"
#include "os/fd.h"

namespace afterimage::test {

class ScratchDevice final : public BlockDevice {
 public:
  struct Calls {
    std::atomic<uint64_t> reads{0}, writes{0}, zeroes{0}, trims{0}, flushes{0}, fua_writes{0}, kept_zeroes{0};
    std::atomic<uint64_t> unaligned_payloads{0};  // of writes of at least a page, in memory
  };
  explicit ScratchDevice(uint64_t size, uint32_t block_size = 512, bool read_only = false)
      : fd_(::memfd_create("scratch-device", MFD_CLOEXEC)),
        size_(size),
        block_size_(block_size),
        read_only_(read_only) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) size_ = 0;
  }
  Calls calls;
  /// Every later write, zero, trim, read and flush fails with this.
  void set_failure(Errno error) { failure_ = error; }
  /// Stores the executed mark itself, as CapturedDevice does.
  void set_marks_executed(bool marks) { marks_executed_ = marks; }

  uint64_t size() const override { return size_; }
  uint32_t block_size() const override { return block_size_; }
  bool read_only() const override { return read_only_; }

  Errno read(uint64_t offset, uint64_t length, std::byte* into) override {
    ++calls.reads;
    if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
    if (failure_ != 0) return failure_;
    return ::pread(fd_.get(), into, length, static_cast<off_t>(offset)) == static_cast<ssize_t>(length) ? 0
                                                                                                        : EIO;
  }
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override {
    ++calls.writes;
    if (options.fua) ++calls.fua_writes;
    constexpr uint64_t kPage = 4096;
    if (length >= kPage && reinterpret_cast<uintptr_t>(from) % kPage != 0) ++calls.unaligned_payloads;
    if (const Errno error = admit(offset, length)) return error;
    if (::pwrite(fd_.get(), from, length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length))
      return EIO;
    return done(options);
  }
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    ++calls.zeroes;
    if (options.no_hole) ++calls.kept_zeroes;
    return clear(offset, length, options);
  }
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    ++calls.trims;
    if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
    return clear(offset, length, options);
  }
  Errno flush() override {
    ++calls.flushes;
    return failure_;
  }

 private:
  Errno admit(uint64_t offset, uint64_t length) const {
    if (read_only_) return EPERM;
    if (const Errno error = check_range(size_, offset, length, ENOSPC)) return error;
    return failure_;
  }
  Errno clear(uint64_t offset, uint64_t length, const RequestOptions& options) {
    if (const Errno error = admit(offset, length)) return error;
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (length > 0 &&
        ::fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
      return errno;
    return done(options);
  }
  Errno done(const RequestOptions& options) const {
    if (marks_executed_ && options.executed != nullptr) options.executed->store(1, std::memory_order_release);
    return 0;
  }
  const Fd fd_;
  uint64_t size_;
  const uint32_t block_size_;
  const bool read_only_;
  std::atomic<Errno> failure_{0};
  bool marks_executed_ = true;
};

}  // namespace afterimage::test
