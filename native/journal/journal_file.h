// JournalFile: the system calls by which the journal is written. The one hook through which tests make a disk
// fail at the n-th call; everything else uses the real ones.
//
// Threads: called from the writer's thread, and from the opener's before that thread exists.
#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "os/result.h"

namespace afterimage {

class JournalFile {
 public:
  virtual ~JournalFile() = default;
  /// May write less than asked, as the system call may.
  virtual Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written);
  virtual Errno fdatasync(int fd);
  virtual Errno fsync(int fd);  // directories, and files whose metadata has just been made
  virtual Errno fallocate(int fd, uint64_t offset, uint64_t length);
  virtual Errno ftruncate(int fd, uint64_t bytes);

  static JournalFile& system();
};

}  // namespace afterimage
