// Reading what is read once, without leaving it in the page cache, which belongs to others: a file by
// RWF_DONTCACHE (Linux 6.14), a block device by direct I/O. A file is not read by direct I/O: ext4 and XFS
// would let its writers wait for that.
//
// Threads: any. Ownership: owns a descriptor of its own, which it opens when it is needed first; the other
// one stays the caller's, and is always the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

class PastCache {
 public:
  /// Reads [offset, offset + length) of what `fd` is of. 0, or an errno value: EINVAL when it has to be read
  /// in another way, since the kernel cannot, or direct I/O wants whole pages.
  Errno read(int fd, uint64_t offset, uint64_t length, std::byte* into);

 private:
  Errno read_by(int fd, uint64_t offset, uint64_t length, std::byte* into, int flags) const;

  std::once_flag looked_;
  Fd direct_;                         // of a block device
  std::atomic<bool> is_file_{false};  // of which the kernel can
};

}  // namespace afterimage
