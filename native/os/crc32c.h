// CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the SSE4.2 instruction where the processor has it.
//
// Threads: any. No allocation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace afterimage {

/// CRC-32C of `bytes` bytes at `data`. `seed` is the CRC of what came before (0 at the start), so that
/// crc32c(b, crc32c(a)) == crc32c(a ++ b).
uint32_t crc32c(const void* data, size_t bytes, uint32_t seed = 0);

}  // namespace afterimage
