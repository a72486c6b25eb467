#include "device/overlay_device.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "os/fd.h"

namespace afterimage {
namespace {

Result<Fd> unnamed_file(const std::string& directory) {
  const int unnamed = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (unnamed >= 0) return Fd(unnamed);
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
    return system_error("SCRATCH_UNAVAILABLE", "create a scratch file in " + directory, errno);
  std::string path = directory + "/overlay-XXXXXX";
  Fd named(::mkostemp(path.data(), O_CLOEXEC));
  if (!named || ::unlink(path.c_str()) != 0)
    return system_error("SCRATCH_UNAVAILABLE", "create a scratch file in " + directory, errno);
  return named;
}

}  // namespace

Result<std::unique_ptr<OverlayDevice>> OverlayDevice::create(std::shared_ptr<BlockDevice> lower,
                                                             const std::string& scratch_directory) {
  Result<Fd> file = unnamed_file(scratch_directory);
  if (!file.ok()) return file.error();
  if (::ftruncate(file->get(), static_cast<off_t>(lower->size())) != 0)
    return system_error("SCRATCH_UNAVAILABLE", "size a scratch file in " + scratch_directory, errno);
  // The descriptor's own link still reaches a file that has no name.
  auto scratch = FileDevice::open("/proc/self/fd/" + std::to_string(file->get()), {.exclusive = false});
  if (!scratch.ok()) return Error{"SCRATCH_UNAVAILABLE", scratch.error().message, scratch.error().sys};
  return std::unique_ptr<OverlayDevice>(
      new OverlayDevice(std::move(lower), std::move(*scratch), std::move(*file)));
}

OverlayDevice::OverlayDevice(std::shared_ptr<BlockDevice> lower, std::unique_ptr<FileDevice> scratch, Fd file)
    : lower_(std::move(lower)),
      scratch_(std::move(scratch)),
      file_(std::move(file)),
      size_(lower_->size()),
      copied_((size_ + kOverlayBlockBytes * kWordBlocks - 1) / (kOverlayBlockBytes * kWordBlocks)) {}

bool OverlayDevice::is_copied(uint64_t block) const {
  const uint64_t word = copied_[block / kWordBlocks].load(std::memory_order_acquire);
  return (word >> (block % kWordBlocks) & 1) != 0;
}

void OverlayDevice::mark_copied(uint64_t first, uint64_t last) {
  for (uint64_t block = first; block <= last;) {
    const uint64_t bit = block % kWordBlocks;
    const uint64_t count = std::min(kWordBlocks - bit, last - block + 1);
    const uint64_t ones = count == kWordBlocks ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    copied_[block / kWordBlocks].fetch_or(ones << bit, std::memory_order_release);
    block += count;
  }
}

uint64_t OverlayDevice::stretch(uint64_t offset, uint64_t length, bool* copied) const {
  uint64_t block = offset / kOverlayBlockBytes;
  const uint64_t end = offset + length;
  *copied = is_copied(block);
  do ++block;
  while (block * kOverlayBlockBytes < end && is_copied(block) == *copied);
  return std::min(end, block * kOverlayBlockBytes) - offset;
}

Errno OverlayDevice::take_space(uint64_t bytes) {
  if (unchecked_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes < kOverlayReserveCheckBytes)
    return 0;
  struct statvfs found {};
  if (::fstatvfs(file_.get(), &found) != 0) return errno;
  if (found.f_blocks == 0) return 0;  // one that knows no limit
  const uint64_t free_bytes = uint64_t{found.f_bavail} * found.f_frsize;
  // Not counted as asked: the next write asks again.
  if (free_bytes < overlay_reserve(uint64_t{found.f_blocks} * found.f_frsize) + bytes) return ENOSPC;
  unchecked_bytes_.store(0, std::memory_order_relaxed);
  return 0;
}

Errno OverlayDevice::copy_up(uint64_t block) {
  std::array<std::byte, kOverlayBlockBytes> content;
  const uint64_t offset = block * kOverlayBlockBytes;
  const uint64_t length = std::min<uint64_t>(kOverlayBlockBytes, size_ - offset);  // the last may be short
  if (const Errno error = lower_->read(offset, length, content.data())) return error;
  if (const Errno error = scratch_->write(offset, length, content.data(), {})) return error;
  mark_copied(block, block);
  return 0;
}

template <typename Store>
Errno OverlayDevice::modify(uint64_t offset, uint64_t length, Store store) {
  for (const uint64_t end = offset + length; offset < end;) {
    const uint64_t region = offset / kRegionBytes;
    const uint64_t piece = std::min(end, (region + 1) * kRegionBytes) - offset;
    const uint64_t first = offset / kOverlayBlockBytes;
    const uint64_t last = (offset + piece - 1) / kOverlayBlockBytes;
    bool copied = false;
    if (stretch(offset, piece, &copied) == piece && copied) {
      if (const Errno error = store(offset, piece)) return error;
    } else {
      const std::lock_guard lock(stripes_[region % kStripes]);
      const bool cuts_first = offset % kOverlayBlockBytes != 0;
      const bool cuts_last = (offset + piece) % kOverlayBlockBytes != 0 && offset + piece != size_;
      if ((cuts_first || (cuts_last && first == last)) && !is_copied(first))
        if (const Errno error = copy_up(first)) return error;
      if (cuts_last && !is_copied(last))
        if (const Errno error = copy_up(last)) return error;
      if (const Errno error = store(offset, piece)) return error;
      mark_copied(first, last);
    }
    offset += piece;
  }
  return 0;
}

Errno OverlayDevice::read(uint64_t offset, uint64_t length, std::byte* into) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  for (const uint64_t end = offset + length; offset < end;) {
    bool copied = false;
    const uint64_t piece = stretch(offset, end - offset, &copied);
    BlockDevice& holder = copied ? static_cast<BlockDevice&>(*scratch_) : *lower_;
    if (const Errno error = holder.read(offset, piece, into)) return error;
    into += piece;
    offset += piece;
  }
  return 0;
}

Errno OverlayDevice::write(uint64_t offset, uint64_t length, const std::byte* from, const RequestOptions&) {
  if (const Errno error = check_range(size_, offset, length, ENOSPC)) return error;
  if (const Errno error = take_space(length)) return error;
  return modify(offset, length, [&](uint64_t at, uint64_t piece) {
    return scratch_->write(at, piece, from + (at - offset), {});
  });
}

Errno OverlayDevice::zero(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (const Errno error = check_range(size_, offset, length, ENOSPC)) return error;
  // Refused before anything is copied up; past this point the pieces may as well be written.
  if (options.fast_only && !can_fast_zero()) return ENOTSUP;
  const bool is_written = options.no_hole || !can_fast_zero();
  if (const Errno error = is_written ? take_space(length) : 0) return error;
  return modify(offset, length, [&](uint64_t at, uint64_t piece) {
    return scratch_->zero(at, piece, {.no_hole = options.no_hole});
  });
}

Errno OverlayDevice::trim(uint64_t offset, uint64_t length, const RequestOptions&) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  return zero(offset, length, {});
}

Errno OverlayDevice::allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) {
  if (const Errno error = check_range(size_, offset, length, EINVAL)) return error;
  extents->clear();
  std::vector<AllocationExtent> part;
  for (const uint64_t end = offset + length; offset < end;) {
    bool copied = false;
    const uint64_t piece = stretch(offset, end - offset, &copied);
    BlockDevice& holder = copied ? static_cast<BlockDevice&>(*scratch_) : *lower_;
    if (const Errno error = holder.allocation(offset, piece, &part)) return error;
    for (const AllocationExtent& extent : part) append_extent(extents, extent);
    offset += piece;
  }
  return 0;
}

}  // namespace afterimage
