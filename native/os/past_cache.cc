#include "os/past_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <string>

namespace afterimage {
namespace {

constexpr uint64_t kPageBytes = 4096;
#ifdef RWF_DONTCACHE
constexpr int kDontCache = RWF_DONTCACHE;
#else
constexpr int kDontCache = 0x80;  // newer than the headers of Debian 12
#endif

}  // namespace

Errno PastCache::read(int fd, uint64_t offset, uint64_t length, std::byte* into) {
  std::call_once(looked_, [this, fd] {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return;
    is_file_ = S_ISREG(status.st_mode);
    if (!S_ISBLK(status.st_mode)) return;
    const std::string same = "/proc/self/fd/" + std::to_string(fd);
    direct_ = Fd(::open(same.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  });
  if (is_file_) {
    const Errno error = read_by(fd, offset, length, into, kDontCache);
    if (error != EOPNOTSUPP) return error;
    is_file_ = false;
  }
  const bool is_whole = (offset | length | reinterpret_cast<uintptr_t>(into)) % kPageBytes == 0;
  return direct_ && is_whole ? read_by(direct_.get(), offset, length, into, 0) : EINVAL;
}

Errno PastCache::read_by(int fd, uint64_t offset, uint64_t length, std::byte* into, int flags) const {
  for (uint64_t done = 0; done < length;) {
    const iovec rest{into + done, length - done};
    const ssize_t count = ::preadv2(fd, &rest, 1, static_cast<off_t>(offset + done), flags);
    if (count == 0) return EIO;  // the end of the file
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0) done += static_cast<uint64_t>(count);
  }
  return 0;
}

}  // namespace afterimage
