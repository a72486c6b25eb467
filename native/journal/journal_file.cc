#include "journal/journal_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace afterimage {
namespace {

template <typename Call>
Errno retried(Call call) {
  while (call() != 0)
    if (errno != EINTR) return errno;
  return 0;
}

}  // namespace

Errno JournalFile::pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) {
  ssize_t n;
  do n = ::pwritev(fd, pieces, count, static_cast<off_t>(offset));
  while (n < 0 && errno == EINTR);
  if (n < 0) return errno;
  *written = static_cast<uint64_t>(n);
  return 0;
}

Errno JournalFile::fdatasync(int fd) {
  return retried([fd] { return ::fdatasync(fd); });
}

Errno JournalFile::fsync(int fd) {
  return retried([fd] { return ::fsync(fd); });
}

Errno JournalFile::fallocate(int fd, uint64_t offset, uint64_t length) {
  return retried([&] { return ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)); });
}

Errno JournalFile::ftruncate(int fd, uint64_t bytes) {
  return retried([&] { return ::ftruncate(fd, static_cast<off_t>(bytes)); });
}

JournalFile& JournalFile::system() {
  static JournalFile file;
  return file;
}

}  // namespace afterimage
