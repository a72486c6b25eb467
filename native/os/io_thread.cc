#include "os/io_thread.h"

#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "os/fd.h"
#include "os/pinned_memory.h"

namespace afterimage {
namespace {

constexpr size_t kIoStackBytes =
    128u << 10;  // far more than the I/O path's depth; the rest of the stack stays lazy

bool set_io_flusher() { return ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0; }

bool refuse_oom_kill() {
  const Fd fd(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  constexpr char kNever[] = "-1000";
  return fd && ::write(fd.get(), kNever, sizeof kNever - 1) == sizeof kNever - 1;
}

/// Whether every executable segment of one loaded object was locked. The main program is left out unless this
/// code lies in it: under Node it is tens of megabytes that no I/O thread runs.
struct TextLock {
  uintptr_t own_address;
  bool complete = true;

  static int visit(dl_phdr_info* object, size_t, void* self) {
    static_cast<TextLock*>(self)->lock(*object);
    return 0;
  }
  void lock(const dl_phdr_info& object) {
    const bool is_main_program = object.dlpi_name[0] == '\0';
    if (is_main_program && !contains(object)) return;
    for (int i = 0; i < object.dlpi_phnum; ++i) {
      const auto& segment = object.dlpi_phdr[i];
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
      const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
      const uintptr_t start = (object.dlpi_addr + segment.p_vaddr) & ~(page - 1);
      const uintptr_t end = object.dlpi_addr + segment.p_vaddr + segment.p_memsz;
      complete &= ::mlock(reinterpret_cast<void*>(start), end - start) == 0;
    }
  }
  bool contains(const dl_phdr_info& object) const {
    for (int i = 0; i < object.dlpi_phnum; ++i) {
      const auto& segment = object.dlpi_phdr[i];
      if (segment.p_type == PT_LOAD && own_address - (object.dlpi_addr + segment.p_vaddr) < segment.p_memsz)
        return true;
    }
    return false;
  }
};

bool lock_text() {
  TextLock lock{reinterpret_cast<uintptr_t>(&set_io_flusher)};
  ::dl_iterate_phdr(&TextLock::visit, &lock);
  return lock.complete;
}

}  // namespace

std::vector<std::string> protect_io_process() {
  std::vector<std::string> refused;
  const auto note = [&refused](const char* what) {
    refused.push_back(std::string(what) + ": " + std::strerror(errno));
  };
  if (!set_io_flusher()) note("PR_SET_IO_FLUSHER");
  if (!refuse_oom_kill()) note("oom_score_adj -1000");
  if (!lock_text()) note("mlock of the program's text");
  return refused;
}

void enter_thread(const std::string& name) {
  ::prctl(PR_SET_NAME, name.c_str(), 0, 0, 0);
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

void enter_io_thread(const std::string& name) {
  enter_thread(name);
  set_io_flusher();

  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return;
  void* lowest = nullptr;
  size_t bytes = 0;
  ::pthread_attr_getstack(&attributes, &lowest, &bytes);
  ::pthread_attr_destroy(&attributes);
  const size_t pinned = bytes < kIoStackBytes ? bytes : kIoStackBytes;
  pin_memory(static_cast<std::byte*>(lowest) + (bytes - pinned), pinned);
}

}  // namespace afterimage
