#include "device/base_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "device/block_device.h"
#include "journal/segment_index.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

/// A block that is being written while it is read looks damaged for a moment.
constexpr int kTriesMax = 3;
/// Whose checksums are looked up together.
constexpr uint64_t kVerifyBlocks = 16;

}  // namespace

Result<std::unique_ptr<BaseReader>> BaseReader::open(const std::string& path, uint64_t volume_bytes) {
  std::unique_ptr<BaseReader> reader(new BaseReader);
  reader->fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader->fd_ && errno == ENOENT) return Error{"BASE_MISSING", path + " does not exist", ENOENT};
  if (!reader->fd_) return open_error(path, errno);
  struct stat status {};
  if (::fstat(reader->fd_.get(), &status) != 0) return system_error("IO_ERROR", "stat " + path, errno);
  reader->file_bytes_ = static_cast<uint64_t>(status.st_size);
  auto sums = BaseChecksums::open(path);
  if (!sums.ok()) return sums.error();
  reader->sums_ = std::move(*sums);
  const uint64_t blocks =
      (std::max(reader->file_bytes_, volume_bytes) + kBaseBlockBytes - 1) / kBaseBlockBytes;
  reader->volume_bytes_ = volume_bytes;
  reader->end_ = blocks * kBaseBlockBytes;
  if (reader->sums_) reader->verified_ = std::vector<std::atomic<uint64_t>>(blocks / 64 + 1);
  return reader;
}

Errno BaseReader::read_raw(uint64_t offset, uint64_t length, std::byte* into) const {
  uint64_t got = 0;
  if (read_at(fd_.get(), into, length, offset, &got) != 0) return EIO;
  std::memset(into + got, 0, length - got);
  return 0;
}

bool BaseReader::is_verified(uint64_t block) const {
  if (block / 64 >= verified_.size()) return true;  // the base has grown since: its writer vouches for it
  return (verified_[block / 64].load(std::memory_order_relaxed) >> block % 64 & 1) != 0;
}

void BaseReader::set_verified(uint64_t block) {
  verified_[block / 64].fetch_or(uint64_t{1} << block % 64, std::memory_order_relaxed);
}

void BaseReader::note_bad(uint64_t block) {
  const std::lock_guard lock(mutex_);
  const uint64_t offset = block * kBaseBlockBytes;
  if (bad_.size() < kBadBlocksMax && std::find(bad_.begin(), bad_.end(), offset) == bad_.end())
    bad_.push_back(offset);
}

std::vector<uint64_t> BaseReader::bad_offsets() const {
  const std::lock_guard lock(mutex_);
  return bad_;
}

BaseReader::Verdict BaseReader::verify(uint64_t block, std::byte* into, Errno* error) {
  Verdict verdict = Verdict::kBad;
  for (int tries = 0; tries < kTriesMax && verdict == Verdict::kBad; ++tries) {
    // The bytes first: an entry that is taken away meanwhile says that they may be a mixture.
    *error = read_raw(block * kBaseBlockBytes, kBaseBlockBytes, into);
    uint32_t sum = kSumNone;
    if (!sums_->get(block, {&sum, 1}).ok() || sum == kSumNone)
      verdict = *error == 0 ? Verdict::kUnsummed : Verdict::kBad;
    else if (*error == 0 && sum != kSumBad && sum_of(into) == sum)
      verdict = Verdict::kRight;
  }
  if (verdict == Verdict::kBad) {
    if (*error == 0) *error = EBADMSG;
    note_bad(block);
  }
  return verdict;
}

Errno BaseReader::read(uint64_t offset, uint64_t length, std::byte* into) {
#ifdef AFTERIMAGE_SABOTAGE_BASE_NOT_VERIFIED  // breaks R5: what a disk made of a base is shown
  return read_raw(offset, length, into);
#endif
  if (!sums_) return read_raw(offset, length, into);
  std::unique_ptr<std::byte[]> whole;
  const uint64_t end = offset + length;
  while (offset < end) {
    const uint64_t block = offset / kBaseBlockBytes;
    const uint64_t begin = block * kBaseBlockBytes;
    const uint64_t bytes = std::min(end, begin + kBaseBlockBytes) - offset;
    if (is_verified(block)) {
      if (const Errno error = read_raw(offset, bytes, into)) return error;
    } else {
      const bool is_whole = bytes == kBaseBlockBytes;
      if (!is_whole && !whole) whole = std::make_unique_for_overwrite<std::byte[]>(kBaseBlockBytes);
      std::byte* const at = is_whole ? into : whole.get();
      Errno error = 0;
      const Verdict verdict = verify(block, at, &error);
      if (verdict == Verdict::kBad) return error;
      if (verdict == Verdict::kRight) set_verified(block);
      if (!is_whole) std::memcpy(into, whole.get() + (offset - begin), bytes);
    }
    offset += bytes;
    into += bytes;
  }
  return 0;
}

Errno BaseReader::read_past_cache(uint64_t offset, uint64_t length, std::byte* into) {
  if (offset % kBaseBlockBytes != 0 || length % kBaseBlockBytes != 0 || offset + length > file_bytes_)
    return read(offset, length, into);
  for (const uint64_t end = offset + length; offset < end;) {
    const uint64_t bytes = std::min(end - offset, kVerifyBlocks * kBaseBlockBytes);
    const Errno error = past_cache_.read(fd_.get(), offset, bytes, into);
    if (const Errno wrong = error == 0 ? verify_read(offset, bytes, into) : read(offset, bytes, into))
      return wrong;
    offset += bytes;
    into += bytes;
  }
  return 0;
}

Errno BaseReader::verify_read(uint64_t offset, uint64_t length, std::byte* into) {
#ifdef AFTERIMAGE_SABOTAGE_BASE_NOT_VERIFIED
  return 0;
#endif
  if (!sums_) return 0;
  const uint64_t first = offset / kBaseBlockBytes;
  const uint64_t count = length / kBaseBlockBytes;
  std::array<uint32_t, kVerifyBlocks> sums{};  // none, where they cannot be read
  static_cast<void>(sums_->get(first, std::span(sums).first(count)));
  for (uint64_t i = 0; i < count; ++i) {
    std::byte* const block = into + i * kBaseBlockBytes;
    if (sums[i] != kSumNone && sum_of(block) == sums[i]) {
      set_verified(first + i);
    } else if (const Errno error = read(offset + i * kBaseBlockBytes, kBaseBlockBytes, block)) {
      return error;
    }
  }
  return 0;
}

BaseReader::Scrubbed BaseReader::scrub(uint64_t offset, uint64_t length) {
  Scrubbed scrubbed;
  const auto bytes = std::make_unique_for_overwrite<std::byte[]>(kBaseBlockBytes);
  const uint64_t stop = std::min(end_, offset + length);
  // What the page cache holds says nothing of the disk.
  const auto forget = [&] {
    ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
  };
  forget();
  for (uint64_t block = offset / kBaseBlockBytes; block * kBaseBlockBytes < stop; ++block) {
    Errno error = 0;
    Verdict verdict = Verdict::kUnsummed;
    if (sums_)
      verdict = verify(block, bytes.get(), &error);
    else if (read_raw(block * kBaseBlockBytes, kBaseBlockBytes, bytes.get()) != 0)
      note_bad(block);
    if (verdict == Verdict::kUnsummed && block * kBaseBlockBytes < std::min(file_bytes_, volume_bytes_))
      scrubbed.unsummed += 1;
    scrubbed.bytes += kBaseBlockBytes;
  }
  forget();
  scrubbed.is_end = stop == end_;
  return scrubbed;
}

}  // namespace afterimage
