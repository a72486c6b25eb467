// Memory that never faults: populated at once and, where permitted, locked. What the I/O path touches lies in
// it, because a page fault that waits for reclaim may wait for the very volume that this process serves.
//
// Threads: any; a mapping is not synchronised. Ownership: PinnedMemory owns its mapping.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "os/result.h"

namespace afterimage {

/// Populates the pages of [start, start + bytes) for writing and locks them. False if the kernel did not lock
/// them (RLIMIT_MEMLOCK without privilege); the pages are populated all the same where MADV_POPULATE_WRITE
/// exists.
bool pin_memory(void* start, size_t bytes);

/// A private, zeroed, page-aligned mapping.
class PinnedMemory {
 public:
  /// `reserved`: up to so many bytes it can become longer where it is; addresses only, no memory. Errors:
  /// MEMORY_UNAVAILABLE.
  static Result<PinnedMemory> allocate(size_t bytes, size_t reserved = 0);
  PinnedMemory(PinnedMemory&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), reserved_(std::exchange(other.reserved_, 0)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(reserved_, other.reserved_);
    return *this;
  }
  ~PinnedMemory();
  std::span<std::byte> bytes() const { return bytes_; }
  /// Makes it `bytes` long, which is no less than it is and within what was reserved. Errors:
  /// MEMORY_UNAVAILABLE, and nothing has changed.
  Outcome extend(size_t bytes);

 private:
  PinnedMemory(std::span<std::byte> bytes, size_t reserved)
      : bytes_(bytes), reserved_(std::max(bytes.size(), reserved)) {}
  std::span<std::byte> bytes_;
  size_t reserved_;
};

}  // namespace afterimage
