#include "os/pinned_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace afterimage {

bool pin_memory(void* start, size_t bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(start) & ~(page - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(start) + bytes + page - 1) & ~(page - 1);
  void* const pages = reinterpret_cast<void*>(first);
#ifdef MADV_POPULATE_WRITE
  ::madvise(pages, end - first, MADV_POPULATE_WRITE);
#endif
  return ::mlock(pages, end - first) == 0;
}

Result<PinnedMemory> PinnedMemory::allocate(size_t bytes) {
  void* const start =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (start == MAP_FAILED) return system_error("MEMORY_UNAVAILABLE", "mmap of an I/O buffer", errno);
  pin_memory(start, bytes);
  return PinnedMemory({static_cast<std::byte*>(start), bytes});
}

PinnedMemory::~PinnedMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace afterimage
