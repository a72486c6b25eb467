#include "journal/block_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "os/file_io.h"

namespace afterimage {
namespace {

/// A multiple of what any file system asks for (statx(2), STATX_DIOALIGN) whose disk has pages.
constexpr uint64_t kBlockBytes = 4096;
/// Written at once: a frame and the rest of a block.
constexpr uint64_t kBlocksBytes = (1 << 20) + (256 << 10);
static_assert(kBlocksBytes % kBlockBytes == 0);
/// Of append_direct(): the file takes no direct I/O, or not all of it.
constexpr Errno kNotDirect = EINVAL;

}  // namespace

Errno BlockWriter::open(JournalFile* file, int fd, uint64_t end, std::unique_ptr<BlockWriter>* writer) {
  std::unique_ptr<BlockWriter> opened(new BlockWriter(file, fd, end));
  opened->blocks_.reset(static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kBlocksBytes)));
  if (!opened->blocks_) return ENOMEM;
  const uint64_t kept = end % kBlockBytes;
  opened->blocks_begin_ = end - kept;
  uint64_t got = 0;
  if (const Errno error = read_at(fd, opened->blocks_.get(), kept, opened->blocks_begin_, &got)) return error;
  if (got < kept) return EIO;
  const int flags = ::fcntl(fd, F_GETFL);
  opened->is_direct_ = flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
  *writer = std::move(opened);
  return 0;
}

Errno BlockWriter::append(std::span<const iovec> pieces) {
  if (is_direct_) {
    const Errno error = append_direct(pieces);
    if (error != kNotDirect) return error;
    leave_direct();
  }
  return append_cached(pieces);
}

Errno BlockWriter::append_direct(std::span<const iovec> pieces) {
  uint64_t filled = end_ - blocks_begin_;
  uint64_t appended = 0;
  for (const iovec& piece : pieces) {
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    for (uint64_t left = piece.iov_len; left > 0;) {
      const uint64_t copied = std::min(left, kBlocksBytes - filled);
      std::memcpy(blocks_.get() + filled, from, copied);
      from += copied;
      left -= copied;
      filled += copied;
      if (filled < kBlocksBytes) continue;
      if (const Errno error = write_blocks(filled)) return error;
      blocks_begin_ += filled;
      filled = 0;
    }
    appended += piece.iov_len;
  }
  const uint64_t whole = filled / kBlockBytes * kBlockBytes;
  if (filled > 0) {
    const uint64_t padded = (filled + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    std::memset(blocks_.get() + filled, 0, padded - filled);
    if (const Errno error = write_blocks(padded)) return error;
    std::memmove(blocks_.get(), blocks_.get() + whole, filled - whole);
  }
  blocks_begin_ += whole;
  end_ += appended;
  return 0;
}

Errno BlockWriter::write_blocks(uint64_t bytes) {
  const iovec blocks{.iov_base = blocks_.get(), .iov_len = bytes};
  uint64_t written = 0;
  if (const Errno error = file_.pwritev(fd_, &blocks, 1, blocks_begin_, &written)) return error;
  return written == bytes ? 0 : kNotDirect;
}

/// What of an unfinished append has been written is written again.
void BlockWriter::leave_direct() {
  is_direct_ = false;
  if (const int flags = ::fcntl(fd_, F_GETFL); flags >= 0) ::fcntl(fd_, F_SETFL, flags & ~O_DIRECT);
}

Errno BlockWriter::append_cached(std::span<const iovec> pieces) {
  std::vector<iovec> left(pieces.begin(), pieces.end());
  uint64_t offset = end_;
  for (size_t next = 0; next < left.size();) {
    if (left[next].iov_len == 0) {
      ++next;
      continue;
    }
    uint64_t written = 0;
    if (const Errno error =
            file_.pwritev(fd_, &left[next], static_cast<int>(left.size() - next), offset, &written))
      return error;
    if (written == 0) return EIO;
    offset += written;
    while (next < left.size() && written >= left[next].iov_len) written -= left[next++].iov_len;
    if (written == 0) continue;
    left[next].iov_base = static_cast<std::byte*>(left[next].iov_base) + written;
    left[next].iov_len -= written;
  }
  end_ = offset;
  return 0;
}

}  // namespace afterimage
