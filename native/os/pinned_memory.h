// Memory that never faults: populated at once and, where permitted, locked. What the I/O path touches lies in
// it, because a page fault that waits for reclaim may wait for the very volume that this process serves.
//
// Threads: any; a mapping is not synchronised. Ownership: PinnedMemory owns its mapping.
#pragma once

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
  /// Errors: MEMORY_UNAVAILABLE.
  static Result<PinnedMemory> allocate(size_t bytes);
  PinnedMemory(PinnedMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedMemory();
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit PinnedMemory(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace afterimage
