// Copying from one BlockDevice to another, as `recover` does.
//
// Threads: blocks on I/O; any worker thread, whose piece_memory() it uses.
#pragma once

#include "device/block_device.h"

namespace afterimage {

constexpr uint32_t kCopyBytesMax = 8u << 20;  // of one call
constexpr uint32_t kCopySkipBytes = 4096;     // zero blocks of this size are skipped when asked to

/// Copies [offset, offset + length), length ≤ kCopyBytesMax, inside both devices. With `skip_zero` aligned
/// zero blocks are not written: only for a target known to read as zero there. Returns how many bytes were.
/// Errors: IO_ERROR, which says where and on which side.
Result<uint64_t> copy_range(BlockDevice& source, BlockDevice& target, uint64_t offset, uint64_t length,
                            bool skip_zero);

}  // namespace afterimage
