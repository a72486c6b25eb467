#include "os/file_io.h"

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace afterimage {

Errno read_at(int fd, void* into, uint64_t bytes, uint64_t offset, uint64_t* got) {
  *got = 0;
  while (*got < bytes) {
    std::byte* const at = static_cast<std::byte*>(into) + *got;
    const ssize_t n = ::pread(fd, at, bytes - *got, static_cast<off_t>(offset + *got));
    if (n == 0) break;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    *got += static_cast<uint64_t>(n);
  }
  return 0;
}

Errno write_at(int fd, const void* from, uint64_t bytes, uint64_t offset) {
  for (uint64_t done = 0; done < bytes;) {
    const std::byte* const at = static_cast<const std::byte*>(from) + done;
    const ssize_t n = ::pwrite(fd, at, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    done += static_cast<uint64_t>(n);
  }
  return 0;
}

}  // namespace afterimage
