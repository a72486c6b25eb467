#include "device/copy.h"

#include <algorithm>
#include <string>

#include "device/piece_memory.h"

namespace afterimage {
namespace {

/// Writes the stretches of `data` that are not zero.
Errno write_data(BlockDevice& target, uint64_t offset, uint64_t length, const std::byte* data,
                 uint64_t* written) {
  uint64_t begin = 0;
  while (begin < length) {
    const uint64_t block = std::min<uint64_t>(kCopySkipBytes, length - begin);
    if (is_zero(data + begin, block)) {
      begin += block;
      continue;
    }
    uint64_t end = begin + block;
    while (end < length) {
      const uint64_t next = std::min<uint64_t>(kCopySkipBytes, length - end);
      if (is_zero(data + end, next)) break;
      end += next;
    }
    if (const Errno error = target.write(offset + begin, end - begin, data + begin, {})) return error;
    *written += end - begin;
    begin = end;
  }
  return 0;
}

Errno write_all(BlockDevice& target, uint64_t offset, uint64_t length, const std::byte* data,
                uint64_t* written) {
  if (const Errno error = target.write(offset, length, data, {})) return error;
  *written += length;
  return 0;
}

}  // namespace

Result<uint64_t> copy_range(BlockDevice& source, BlockDevice& target, uint64_t offset, uint64_t length,
                            bool skip_zero) {
  if (length > kCopyBytesMax) return system_error("IO_ERROR", "copy " + std::to_string(length), EINVAL);
  uint64_t written = 0;
  std::byte* const piece = piece_memory();
  for (uint64_t done = 0; done < length;) {
    const uint64_t bytes = std::min<uint64_t>(kPieceBytes, length - done);
    const uint64_t at = offset + done;
    if (const Errno error = source.read_past_cache(at, bytes, piece))
      return system_error("IO_ERROR", "read the source at " + std::to_string(at), error);
    const Errno error = skip_zero ? write_data(target, at, bytes, piece, &written)
                                  : write_all(target, at, bytes, piece, &written);
    if (error != 0) return system_error("IO_ERROR", "write the target at " + std::to_string(at), error);
    done += bytes;
  }
  return written;
}

}  // namespace afterimage
