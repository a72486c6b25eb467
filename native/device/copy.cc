#include "device/copy.h"

#include <algorithm>
#include <memory>

namespace afterimage {
namespace {

constexpr uint64_t kPieceBytes = 1u << 20;

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

}  // namespace

Errno copy_range(BlockDevice& source, BlockDevice& target, uint64_t offset, uint64_t length, bool skip_zero,
                 uint64_t* written) {
  if (length > kCopyBytesMax) return EINVAL;
  *written = 0;
  const auto piece = std::make_unique_for_overwrite<std::byte[]>(std::min(kPieceBytes, length));
  for (uint64_t done = 0; done < length;) {
    const uint64_t bytes = std::min(kPieceBytes, length - done);
    if (const Errno error = source.read(offset + done, bytes, piece.get())) return error;
    if (skip_zero) {
      if (const Errno error = write_data(target, offset + done, bytes, piece.get(), written)) return error;
    } else {
      if (const Errno error = target.write(offset + done, bytes, piece.get(), {})) return error;
      *written += bytes;
    }
    done += bytes;
  }
  return 0;
}

}  // namespace afterimage
