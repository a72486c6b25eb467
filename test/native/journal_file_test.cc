#include "journal/journal_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "os/fd.h"
#include "scratch_files.h"

namespace {

thread_local int interruptions = 0;  // of the calls to come

int interrupted_or(long call, int fd) {
  if (interruptions == 0) return static_cast<int>(::syscall(call, fd));
  --interruptions;
  errno = EINTR;
  return -1;
}

}  // namespace

// In place of the C library's, for the whole program: a signal that comes in time cannot be arranged.
extern "C" int fdatasync(int fd) { return interrupted_or(SYS_fdatasync, fd); }
extern "C" int fsync(int fd) { return interrupted_or(SYS_fsync, fd); }

using namespace afterimage;

// Symptom: on a file system whose sync can be interrupted (FUSE, NFS), any signal made the journal unusable
// until it was opened anew: JOURNAL_IO, for an EINTR. If it returns, the error comes out here.
TEST_CASE("a sync that a signal interrupts is made again") {
  const ScratchDirectory directory;
  const std::string path = directory.make_file("file", 4096);
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(fd);
  JournalFile& file = JournalFile::system();
  interruptions = 2;
  CHECK(file.fdatasync(fd.get()) == 0);
  CHECK(interruptions == 0);
  interruptions = 2;
  CHECK(file.fsync(fd.get()) == 0);
  CHECK(interruptions == 0);
  CHECK(file.fsync(-1) == EBADF);
}
