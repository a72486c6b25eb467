#include "device/file_device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "os/pinned_memory.h"

namespace afterimage {
namespace {

constexpr uint64_t kBounceBytes = 256 << 10;
constexpr uint64_t kPageBytes = 4096;

uint64_t round_down(uint64_t value, uint64_t unit) { return value / unit * unit; }
uint64_t round_up(uint64_t value, uint64_t unit) { return round_down(value + unit - 1, unit); }

/// What write_zeroes() writes. Never written to; not const, so that it takes no room in the program's file.
alignas(kPageBytes) std::byte zeroes[kBounceBytes];

/// One page-aligned buffer per thread, so that no request waits for another's: made by prepare_thread(), else
/// at its first need. Null when there is no memory for it.
std::byte* bounce_buffer() {
  thread_local std::optional<PinnedMemory> buffer;
  if (!buffer) {
    auto allocated = PinnedMemory::allocate(kBounceBytes);
    if (!allocated.ok()) return nullptr;
    buffer.emplace(std::move(*allocated));
  }
  return buffer->bytes().data();
}

/// Repeats call(done) until `length` bytes are done; a call that does nothing means that the file has been
/// cut short.
template <typename Call>
Errno repeat(uint64_t length, Call call) {
  for (uint64_t done = 0; done < length;) {
    const ssize_t count = call(done);
    if (count > 0) {
      done += static_cast<uint64_t>(count);
    } else if (count == 0) {
      return EIO;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

Errno read_fully(int fd, uint64_t offset, uint64_t length, std::byte* into) {
  return repeat(length, [&](uint64_t done) {
    return ::pread(fd, into + done, length - done, static_cast<off_t>(offset + done));
  });
}

Errno write_fully(int fd, uint64_t offset, uint64_t length, const std::byte* from, int flags) {
  return repeat(length, [&](uint64_t done) {
    if (flags == 0) return ::pwrite(fd, from + done, length - done, static_cast<off_t>(offset + done));
    const iovec piece{const_cast<std::byte*>(from + done), length - done};
    return ::pwritev2(fd, &piece, 1, static_cast<off_t>(offset + done), flags);
  });
}

}  // namespace

Errno FileDevice::prepare_thread() { return bounce_buffer() == nullptr ? ENOMEM : 0; }

bool FileDevice::is_aligned(uint64_t offset, uint64_t length) const {
  return ((offset | length) & (alignment_ - 1)) == 0;
}

Errno FileDevice::read(uint64_t offset, uint64_t length, std::byte* into) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  if (length == 0) return 0;
  if (is_aligned(offset, length) && reinterpret_cast<uintptr_t>(into) % memory_alignment_ == 0)
    return read_fully(fd_.get(), offset, length, into);
  // No lock against read-modify-write: what that writes back beside its own bytes is what is there already.
  std::byte* const bounce = bounce_buffer();
  if (bounce == nullptr) return ENOMEM;
  for (const uint64_t end = offset + length; offset < end;) {
    const uint64_t window = round_down(offset, alignment_);
    const uint64_t window_end = std::min(round_up(end, alignment_), window + kBounceBytes);
    if (const Errno error = read_fully(fd_.get(), window, window_end - window, bounce)) return error;
    const uint64_t piece = std::min(end, window_end) - offset;
    std::memcpy(into, bounce + (offset - window), piece);
    into += piece;
    offset += piece;
  }
  return 0;
}

Errno FileDevice::read_past_cache(uint64_t offset, uint64_t length, std::byte* into) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  const Errno error = direct_ ? EINVAL : past_cache_.read(fd_.get(), offset, length, into);
  return error == EINVAL ? read(offset, length, into) : error;
}

Errno FileDevice::write(uint64_t offset, uint64_t length, const std::byte* from,
                        const RequestOptions& options) {
  if (read_only_) return EPERM;
  if (const Errno error = check_range(size_, offset, length, ENOSPC)) return error;
  if (length == 0) return 0;
#ifdef AFTERIMAGE_SABOTAGE_FLUSH_IGNORED  // a mutant that the tests must catch (R4)
  return write_at(offset, length, from, 0);
#endif
  if (!options.fua) return write_at(offset, length, from, 0);
  // In direct mode nothing lies in the page cache: each call gets its own error, and none waits for another.
  if (direct_) return write_durably(offset, length, from);
  const std::lock_guard lock(sync_);
  return write_durably(offset, length, from);
}

Errno FileDevice::write_durably(uint64_t offset, uint64_t length, const std::byte* from) {
  if (flush_failed_) return EIO;
  const Errno error = write_at(offset, length, from, RWF_DSYNC);
  // Only a failed sync puts earlier writes in doubt. If it was the write that failed (a full file system, a
  // bad sector), a plain one fails as well.
  if (error != 0 && write_at(offset, length, from, 0) == 0) flush_failed_ = true;
  return error;
}

Errno FileDevice::write_at(uint64_t offset, uint64_t length, const std::byte* from, int flags) {
  return direct_ ? write_direct(offset, length, from, flags)
                 : write_fully(fd_.get(), offset, length, from, flags);
}

Errno FileDevice::write_direct(uint64_t offset, uint64_t length, const std::byte* from, int flags) {
  if (!is_aligned(offset, length)) {
    const std::unique_lock alone(unaligned_);
    return write_through_bounce(offset, length, from, flags);
  }
  const std::shared_lock together(unaligned_);
  if (reinterpret_cast<uintptr_t>(from) % memory_alignment_ == 0)
    return write_fully(fd_.get(), offset, length, from, flags);
  return write_through_bounce(offset, length, from, flags);
}

Errno FileDevice::write_through_bounce(uint64_t offset, uint64_t length, const std::byte* from, int flags) {
  std::byte* const bounce = bounce_buffer();
  if (bounce == nullptr) return ENOMEM;
  for (const uint64_t end = offset + length; offset < end;) {
    const uint64_t window = round_down(offset, alignment_);
    const uint64_t window_end = std::min(round_up(end, alignment_), window + kBounceBytes);
    const uint64_t piece = std::min(end, window_end) - offset;
    const uint64_t last_block = window_end - alignment_;
    if (window < offset || (last_block == window && offset + piece < window_end))
      if (const Errno error = read_fully(fd_.get(), window, alignment_, bounce)) return error;
    if (last_block != window && offset + piece < window_end)
      if (const Errno error = read_fully(fd_.get(), last_block, alignment_, bounce + (last_block - window)))
        return error;
    std::memcpy(bounce + (offset - window), from, piece);
    if (const Errno error = write_fully(fd_.get(), window, window_end - window, bounce, flags)) return error;
    from += piece;
    offset += piece;
  }
  return 0;
}

Errno FileDevice::write_zeroes(uint64_t offset, uint64_t length) {
  for (uint64_t done = 0; done < length;) {
    // Pieces end on whole pieces of the device, so that only the first and the last can be unaligned.
    const uint64_t at = offset + done;
    const uint64_t piece = std::min(length - done, kBounceBytes - at % kBounceBytes);
    if (const Errno error = write_at(at, piece, zeroes, 0)) return error;
    done += piece;
  }
  return 0;
}

Errno FileDevice::zero_blocks(uint64_t offset, uint64_t length, const RequestOptions& options) {
  // A block device that cannot zero by itself is not even asked: the kernel drops the range's dirty pages
  // first, and "untouched" would be a lie.
  if (is_block_device_ && !fast_zero_) return options.fast_only ? ENOTSUP : write_zeroes(offset, length);
  const int mode = FALLOC_FL_KEEP_SIZE | (options.no_hole ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
  Errno error = 0;
  {
    const std::shared_lock together(unaligned_);  // a read-modify-write could bring back what this removes
    while (::fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
      error = errno;
      if (error != EINTR) break;
      error = 0;
    }
  }
  switch (error) {
    case EOPNOTSUPP:
    case ENOSYS:
    case ENODEV:
    case EINVAL:
    case EBUSY:
      if (is_block_device_) fast_zero_ = false;
      if (options.fast_only && !is_block_device_) return ENOTSUP;
      return write_zeroes(offset, length);
    default:
      return error;
  }
}

Errno FileDevice::zero(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (read_only_) return EPERM;
  if (const Errno error = check_range(size_, offset, length, ENOSPC)) return error;
  if (length == 0) return 0;
  const uint64_t end = offset + length;
  const uint64_t blocks = round_up(offset, zero_unit_);
  const uint64_t blocks_end = round_down(end, zero_unit_);
  if (blocks < blocks_end) {  // first, because only here can fast_only be refused
    if (const Errno error = zero_blocks(blocks, blocks_end - blocks, options)) return error;
    if (const Errno error = write_zeroes(offset, blocks - offset)) return error;
    if (const Errno error = write_zeroes(blocks_end, end - blocks_end)) return error;
  } else {
    if (options.fast_only) return ENOTSUP;
    if (const Errno error = write_zeroes(offset, length)) return error;
  }
  return options.fua ? flush() : 0;
}

Errno FileDevice::trim(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (read_only_) return EPERM;
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  return zero(offset, length, {.fua = options.fua});
}

Errno FileDevice::flush() {
#ifdef AFTERIMAGE_SABOTAGE_FLUSH_IGNORED  // a mutant that the tests must catch (R4)
  return 0;
#endif
  if (read_only_) return 0;
  // One at a time: of two at once, the kernel would tell only one of a lost write-back. A caller that finds
  // that a whole flush has begun and ended since it came is served by that one.
  const uint64_t begun = flushes_begun_;
  const std::lock_guard lock(sync_);
  if (flush_failed_) return EIO;
  if (flushes_begun_ != begun) return 0;
  ++flushes_begun_;
  while (::fdatasync(fd_.get()) != 0) {
    if (errno == EINTR) continue;
    flush_failed_ = true;
    return errno;
  }
  return 0;
}

/// A page that could not be written counts as clean afterwards, and is read as if it had been. What is dirty
/// still is written first, and if that fails too it is on no disk either: the answer does not matter.
void FileDevice::forget_cached() {
  if (!read_only_) (void)::fdatasync(fd_.get());
  (void)::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
}

Errno FileDevice::allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) {
  if (is_block_device_) return BlockDevice::allocation(offset, length, extents);
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  extents->clear();
  for (const uint64_t end = offset + length; offset < end;) {
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno != ENXIO) {  // a file system that does not know
      append_extent(extents, {end - offset, false, false});
      break;
    }
    // ENXIO: nothing but a hole up to the end.
    const uint64_t data_begin = data < 0 ? end : std::min(end, static_cast<uint64_t>(data));
    append_extent(extents, {data_begin - offset, true, true});
    if (data_begin == end) break;
    const off_t hole = ::lseek(fd_.get(), static_cast<off_t>(data_begin), SEEK_HOLE);
    const uint64_t data_end = hole < 0 ? end : std::min(end, static_cast<uint64_t>(hole));
    append_extent(extents, {data_end - data_begin, false, false});
    offset = data_end;
  }
  return 0;
}

}  // namespace afterimage
