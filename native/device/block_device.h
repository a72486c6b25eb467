// BlockDevice: everything that can be read and written is one; everything that serves one is a front end.
//
// Contract, held by test/native/block_device_contract.cc for every implementation:
//  - Offsets and lengths are bytes at any alignment; a device that needs alignment does its own
//  read-modify-write,
//    atomic towards other calls on the same device.
//  - A range beyond size() is refused before anything is touched: ENOSPC for write and zero, EINVAL for read
//  and
//    trim. length 0 succeeds and does nothing. offset + length never overflows into acceptance.
//  - A write is visible to every read that begins after it returned 0. Not atomic against overlapping calls.
//  - flush() makes every write, zero and trim that *returned* before the call began durable.
//  - A read-only device answers EPERM to write, zero and trim; flush succeeds.
//
// Threads: every method may be called from any thread, concurrently. Nothing here calls into JavaScript.
// Ownership: buffers belong to the caller and are not kept after the call.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "os/result.h"

namespace afterimage {

constexpr uint32_t kSectorBytes = 512;

/// How a modifying request is to be carried out.
struct RequestOptions {
  bool fua = false;      // on stable storage before the call returns
  bool no_hole = false;  // zero: the range stays allocated (NBD_CMD_FLAG_NO_HOLE)
  bool fast_only =
      false;  // zero: ENOTSUP, untouched, unless faster than writing zeroes (NBD_CMD_FLAG_FAST_ZERO)
  /// The request slot's mark, or null. CapturedDevice stores 1 (release) once backing and ring both hold the
  /// request, before the extent is unlocked; whoever finds 1 after a crash must only answer, not run it
  /// again.
  std::atomic<uint32_t>* executed = nullptr;
};

/// A stretch of a device of one kind, for NBD base:allocation.
struct AllocationExtent {
  uint64_t length;  // bytes, > 0
  bool hole;        // not allocated: NBD_STATE_HOLE
  bool zero;        // reads as zeroes: NBD_STATE_ZERO
  bool operator==(const AllocationExtent&) const = default;
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  virtual uint64_t size() const = 0;  // bytes, a multiple of kSectorBytes; it may grow, and never shrinks
  virtual uint32_t block_size() const = 0;  // logical block size in bytes: 512 or 4096
  virtual bool read_only() const = 0;
  virtual bool can_fast_zero() const { return false; }
  /// Bytes that are there now, as far as the device can use them. Where that is more than size(), size() has
  /// become it. May wait for the disk. Errors: BACKING_INVALID (more, and no multiple of its blocks),
  /// IO_ERROR.
  virtual Result<uint64_t> remeasure() { return size(); }

  /// Called by each front-end thread before its first request: makes what the thread will need of its own, so
  /// that no request waits for memory or fails for want of it. Errors: ENOMEM.
  virtual Errno prepare_thread() { return 0; }

  virtual Errno read(uint64_t offset, uint64_t length, std::byte* into) = 0;
  /// As read(), for what is read once: where that can be done nothing of it is left in the page cache, which
  /// belongs to production.
  virtual Errno read_past_cache(uint64_t offset, uint64_t length, std::byte* into) {
    return read(offset, length, into);
  }
  virtual Errno write(uint64_t offset, uint64_t length, const std::byte* from,
                      const RequestOptions& options) = 0;
  /// The range reads back as zeroes.
  virtual Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) = 0;
  /// Deallocates where possible; the range reads back as zeroes (a range has one content at a recovery
  /// point).
  virtual Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) = 0;
  virtual Errno flush() = 0;
  /// A flush has failed, or a write with FUA for want of one: no later one succeeds, and what was written
  /// since the last good one may be lost although it is still read.
  virtual bool has_flush_failed() const { return false; }
  /// What is read from now on is on the disk, as far as nobody writes meanwhile. May wait for the disk.
  virtual void forget_cached() {}
  /// Describes [offset, offset + length) completely and in order; neighbours differ. Default: all allocated
  /// data.
  virtual Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents);
};

/// EINVAL/ENOSPC (as `beyond`) when [offset, offset+length) does not lie in [0, size); safe against overflow.
inline Errno check_range(uint64_t size, uint64_t offset, uint64_t length, Errno beyond) {
  return offset > size || length > size - offset ? beyond : 0;
}

/// Appends to a description of consecutive extents, joined to the last one where they are of one kind.
/// Nothing is appended for length 0.
void append_extent(std::vector<AllocationExtent>* extents, const AllocationExtent& extent);

/// True if all bytes are zero. Stops at the first that is not.
bool is_zero(const std::byte* data, uint64_t length);

}  // namespace afterimage
