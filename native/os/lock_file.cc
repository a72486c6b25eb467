#include "os/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "os/file_error.h"

namespace afterimage {

Result<Fd> take_lock(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  // Where nobody can write a lock is none the less a question, and a reader's descriptor can hold it.
  if (!fd && errno == EROFS) fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return file_error("open " + path, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return Fd{};
  return system_error("IO_ERROR", "lock " + path, errno);
}

}  // namespace afterimage
