// Reading a file past the page cache, beside a descriptor that goes through it: what is read once shall not
// drive out what others need.
//
// Threads: any. Ownership: owns a descriptor of its own, which it opens when it is needed first; the other
// one stays the caller's, and is always the same.
#pragma once

#include <cstdint>
#include <mutex>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint64_t kDirectReadUnit = 4096;  // of offset, length and memory

class DirectReads {
 public:
  /// Reads [offset, offset + length) of what `fd` is of; the kernel writes first what is dirty there. 0, or
  /// an errno value: EINVAL when it has to be read in another way, for want of whole units or of direct I/O.
  Errno read(int fd, uint64_t offset, uint64_t length, std::byte* into);

 private:
  std::once_flag tried_;
  Fd direct_;
};

}  // namespace afterimage
