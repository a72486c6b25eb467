#include "os/direct_reads.h"

#include <fcntl.h>

#include <cerrno>
#include <string>

#include "os/file_io.h"

namespace afterimage {

Errno DirectReads::read(int fd, uint64_t offset, uint64_t length, std::byte* into) {
  if ((offset | length | reinterpret_cast<uintptr_t>(into)) % kDirectReadUnit != 0) return EINVAL;
  std::call_once(tried_, [this, fd] {
    const std::string same = "/proc/self/fd/" + std::to_string(fd);
    direct_ = Fd(::open(same.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  });
  if (!direct_) return EINVAL;
  uint64_t got = 0;
  if (const Errno error = read_at(direct_.get(), into, length, offset, &got)) return error;
  return got == length ? 0 : EIO;
}

}  // namespace afterimage
