// Reading and writing a file at a place, in as many pieces as the kernel makes of it.
//
// Threads: any. Ownership: descriptors and bytes stay the caller's.
#pragma once

#include <cstdint>

#include "os/result.h"

namespace afterimage {

/// Up to `bytes` bytes at `offset`; *got is fewer only at the end of the file, or with an error. 0, or an
/// errno value.
Errno read_at(int fd, void* into, uint64_t bytes, uint64_t offset, uint64_t* got);

/// All of them. 0, or an errno value: some may have been written.
Errno write_at(int fd, const void* from, uint64_t bytes, uint64_t offset);

}  // namespace afterimage
