#include "os/pinned_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "os/assert.h"

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

Result<PinnedMemory> PinnedMemory::allocate(size_t bytes, size_t reserved) {
  void* const start = ::mmap(nullptr, std::max(bytes, reserved), PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return system_error("MEMORY_UNAVAILABLE", "mmap of an I/O buffer", errno);
  PinnedMemory memory({static_cast<std::byte*>(start), 0}, std::max(bytes, reserved));
  if (Outcome extended = memory.extend(bytes); !extended.ok()) return extended.error();
  return memory;
}

Outcome PinnedMemory::extend(size_t bytes) {
  AFTERIMAGE_ASSERT(bytes >= bytes_.size() && bytes <= reserved_, "the addresses of this mapping");
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t used = (bytes_.size() + page - 1) / page * page;  // what is there stays as it is
  if (bytes > used) {
    void* const start = bytes_.data() + used;
    const void* const made = ::mmap(start, bytes - used, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_FIXED, -1, 0);
    if (made == MAP_FAILED) return system_error("MEMORY_UNAVAILABLE", "mmap of an I/O buffer", errno);
    pin_memory(start, bytes - used);
  }
  bytes_ = {bytes_.data(), bytes};
  return Nothing{};
}

PinnedMemory::~PinnedMemory() {
  if (reserved_ > 0) ::munmap(bytes_.data(), reserved_);
}

}  // namespace afterimage
