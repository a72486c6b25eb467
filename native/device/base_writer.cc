#include "device/base_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "journal/segment_appender.h"
#include "journal/segment_index.h"

namespace afterimage {
namespace {

/// Entries that are put together.
constexpr uint64_t kSettleBlocks = 4096;

Errno errno_of(const Error& error) { return error.sys != 0 ? error.sys : EIO; }

/// Enters `entry`, durably, for the blocks from `first` to the end that have no checksum.
Outcome enter(BaseChecksums& sums, uint64_t first, uint64_t end, uint32_t entry) {
  for (; first < end; first += kSettleBlocks) {
    std::vector<uint32_t> entries(std::min(kSettleBlocks, end - first));
    if (const auto got = sums.get(first, entries); !got.ok()) return got.error();
    std::replace(entries.begin(), entries.end(), kSumNone, entry);
    if (Outcome put = sums.put(first, entries); !put.ok()) return put;
  }
  return sums.sync();
}

}  // namespace

Result<std::unique_ptr<BaseWriter>> BaseWriter::open(const std::string& path, FileDevice::Cache cache) {
  std::unique_ptr<BaseWriter> writer(new BaseWriter);
  auto base = FileDevice::open(path, {.cache = cache});
  if (!base.ok()) return base.error();
  writer->base_ = std::move(*base);
  auto sums = BaseChecksums::create(path);
  if (!sums.ok()) return sums.error();
  writer->sums_ = std::move(*sums);
  writer->block_ = std::make_unique_for_overwrite<std::byte[]>(kBaseBlockBytes);
  const uint64_t blocks = (writer->size() + kBaseBlockBytes - 1) / kBaseBlockBytes;
  writer->unsettled_.resize(blocks);
  writer->bad_.resize(blocks);
  return writer;
}

Outcome BaseWriter::lose(const std::string& path, uint64_t offset, uint64_t size) {
  auto sums = BaseChecksums::create(path);
  if (!sums.ok()) return sums.error();
  const uint64_t blocks = (size + kBaseBlockBytes - 1) / kBaseBlockBytes;
  // The marks first: a file that is long enough would pass for one that was always so.
  if (Outcome entered = enter(**sums, offset / kBaseBlockBytes, blocks, kSumBad); !entered.ok())
    return entered;
  const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  struct stat status {};
  const bool is_made = file && ::fstat(file.get(), &status) == 0 &&
                       (static_cast<uint64_t>(status.st_size) >= size ||
                        ::ftruncate(file.get(), static_cast<off_t>(size)) == 0) &&
                       ::fsync(file.get()) == 0;
  if (!is_made) return system_error("JOURNAL_IO", "make " + path, errno);
  return Nothing{};
}

Result<uint64_t> BaseWriter::grow(const std::string& path, uint64_t size) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return Error{"BASE_MISSING", path + " does not exist", ENOENT};
  if (!file) return journal_error("open " + path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return journal_error("stat " + path, errno);
  const auto bytes = static_cast<uint64_t>(status.st_size);
  const uint64_t wanted = std::max((bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes, size);
  if (wanted == bytes) return wanted;
  auto sums = BaseChecksums::create(path);
  if (!sums.ok()) return sums.error();
  // Before the file is longer: what is cut off by a crash in between has them, and is zero to any reader.
  const auto blocks = [](uint64_t end) { return (end + kBaseBlockBytes - 1) / kBaseBlockBytes; };
  const std::vector<std::byte> zeroes(kBaseBlockBytes);
  if (Outcome entered = enter(**sums, blocks(bytes), blocks(wanted), sum_of(zeroes.data())); !entered.ok())
    return entered.error();
  if (::ftruncate(file.get(), static_cast<off_t>(wanted)) != 0) return journal_error("grow " + path, errno);
  return wanted;
}

Errno BaseWriter::read(uint64_t offset, uint64_t length, std::byte* into) {
  return base_->read(offset, length, into);
}

Errno BaseWriter::trim(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  return zero(offset, length, options);
}

Errno BaseWriter::prepare(std::span<const Range> ranges) {
  const std::lock_guard alone(alone_);
  return take_all(ranges);
}

Errno BaseWriter::check(std::span<const Range> ranges, std::vector<uint64_t>* bad_offsets) {
  const std::lock_guard alone(alone_);
  for (const auto& [offset, length] : ranges) {
    if (length == 0) continue;
    if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
    const uint64_t end = offset + length;
    // Only the first and the last can be touched in part.
    for (const uint64_t block : {offset / kBaseBlockBytes, (end - 1) / kBaseBlockBytes}) {
      const uint64_t begin = block * kBaseBlockBytes;
      if (offset <= begin && end >= std::min(size(), begin + kBaseBlockBytes)) continue;
      if (unsettled_[block] || (!bad_offsets->empty() && bad_offsets->back() == begin)) continue;
      uint32_t sum = kSumNone;
      if (const auto got = sums_->get(block, {&sum, 1}); !got.ok()) return errno_of(got.error());
      bool bad = false;
      if (sum != kSumNone)
        if (const Errno error = is_bad(block, sum, &bad)) return error;
      if (bad) bad_offsets->push_back(begin);
    }
  }
  return 0;
}

Errno BaseWriter::write(uint64_t offset, uint64_t length, const std::byte* from,
                        const RequestOptions& options) {
  if (const Errno error = check_range(size(), offset, length, ENOSPC)) return error;
  const std::shared_lock beside(alone_);
  const Range range{offset, length};
  {
    const std::lock_guard lock(mutex_);
    if (const Errno error = take_all({&range, 1})) return error;
    touch(range);
  }
  if (const Errno error = base_->write(offset, length, from, options)) return error;
  const uint64_t first = (offset + kBaseBlockBytes - 1) / kBaseBlockBytes;
  std::vector<uint32_t> sums;
  for (uint64_t at = first * kBaseBlockBytes; at + kBaseBlockBytes <= offset + length; at += kBaseBlockBytes)
    sums.push_back(sum_of(from + (at - offset)));
  const std::lock_guard lock(mutex_);
  for (uint64_t i = 0; i < sums.size(); ++i) fresh_[first + i] = sums[i];
  return 0;
}

Errno BaseWriter::zero(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (const Errno error = check_range(size(), offset, length, ENOSPC)) return error;
  const std::lock_guard alone(alone_);
  const Range range{offset, length};
  if (const Errno error = take_all({&range, 1})) return error;
  touch(range);
  return base_->zero(offset, length, options);
}

void BaseWriter::touch(const Range& range) {
  if (fresh_.empty()) return;
  const uint64_t end = (range.offset + range.length + kBaseBlockBytes - 1) / kBaseBlockBytes;
  for (uint64_t block = range.offset / kBaseBlockBytes; block < end; ++block) fresh_.erase(block);
}

Errno BaseWriter::take_all(std::span<const Range> ranges) {
  bool is_taken = false;
  for (const Range& range : ranges)
    if (const Errno error = unsettle(range, &is_taken)) return error;
  if (is_taken)
    if (Outcome synced = sums_->sync(); !synced.ok()) return errno_of(synced.error());
  return 0;
}

Errno BaseWriter::unsettle(const Range& range, bool* is_taken) {
  const auto [offset, length] = range;
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  const uint64_t end = offset + length;
  for (uint64_t block = offset / kBaseBlockBytes; block * kBaseBlockBytes < end; ++block) {
    const uint64_t begin = block * kBaseBlockBytes;
    const bool is_whole = offset <= begin && end >= std::min(size(), begin + kBaseBlockBytes);
    // What is written wholly keeps nothing of what was there.
    if (is_whole) bad_[block] = false;
    if (unsettled_[block]) continue;
    uint32_t sum = kSumNone;
    if (const auto got = sums_->get(block, {&sum, 1}); !got.ok()) return errno_of(got.error());
    if (sum != kSumNone) {
      if (const Errno error = take(block, sum, is_whole)) return error;
      *is_taken = true;
    }
    unsettled_[block] = true;
    has_unsettled_ = true;
  }
  return 0;
}

/// Takes away the entry `sum`. What is to be left of the block must be what it was settled with.
Errno BaseWriter::take(uint64_t block, uint32_t sum, bool is_whole) {
  if (!is_whole) {
    bool bad = false;
    if (const Errno error = is_bad(block, sum, &bad)) return error;
    bad_[block] = bad;
  }
#ifndef AFTERIMAGE_SABOTAGE_SUMS_NOT_TAKEN  // breaks R6: a crash between bytes and sums is taken for damage
  const uint32_t none = kSumNone;
  if (Outcome put = sums_->put(block, {&none, 1}); !put.ok()) return errno_of(put.error());
#endif
  return 0;
}

/// Whether the block, settled with `sum`, is not what it was.
Errno BaseWriter::is_bad(uint64_t block, uint32_t sum, bool* is_bad) {
  const Errno error = load(block);
  if (error != 0 && error != EIO) return error;
  *is_bad = error == EIO || sum == kSumBad || sum_of(block_.get()) != sum;
  return 0;
}

Errno BaseWriter::load(uint64_t block) {
  const uint64_t offset = block * kBaseBlockBytes;
  const uint64_t bytes = std::min<uint64_t>(kBaseBlockBytes, size() - offset);
  std::memset(block_.get() + bytes, 0, kBaseBlockBytes - bytes);
  return base_->read(offset, bytes, block_.get());
}

Errno BaseWriter::settle(uint64_t first, uint64_t count) {
  std::vector<uint32_t> sums(count);
  for (uint64_t i = 0; i < count; ++i) {
    const auto fresh = fresh_.find(first + i);
    if (fresh == fresh_.end())
      if (const Errno error = load(first + i)) return error;
    sums[i] = bad_[first + i] ? kSumBad : fresh != fresh_.end() ? fresh->second : sum_of(block_.get());
  }
  if (Outcome put = sums_->put(first, sums); !put.ok()) return errno_of(put.error());
  return 0;
}

Errno BaseWriter::flush() {
  const std::lock_guard alone(alone_);
  if (const Errno error = base_->flush()) return error;
  if (!has_unsettled_) return 0;
  const uint64_t blocks = unsettled_.size();
  for (uint64_t first = 0; first < blocks;) {
    const auto begin = std::find(unsettled_.begin() + static_cast<int64_t>(first), unsettled_.end(), true);
    first = static_cast<uint64_t>(begin - unsettled_.begin());
    if (first == blocks) break;
    uint64_t count = 1;
    while (count < kSettleBlocks && first + count < blocks && unsettled_[first + count]) ++count;
    if (const Errno error = settle(first, count)) return error;
    first += count;
  }
  if (Outcome synced = sums_->sync(); !synced.ok()) return errno_of(synced.error());
  std::fill(unsettled_.begin(), unsettled_.end(), false);
  std::fill(bad_.begin(), bad_.end(), false);
  fresh_.clear();
  has_unsettled_ = false;
  return 0;
}

Errno BaseWriter::complete() {
  const std::lock_guard alone(alone_);
  Summed summed;
  if (const Errno error = sum_blocks(0, unsettled_.size(), &summed)) return error;
  return summed.unread == 0 ? 0 : EIO;
}

Errno BaseWriter::sum(uint64_t offset, uint64_t length, uint64_t* blocks) {
  const std::lock_guard alone(alone_);
  const uint64_t stop = std::min(size(), offset + std::min(length, size()));
  Summed summed;
  const Errno error =
      sum_blocks(offset / kBaseBlockBytes, (stop + kBaseBlockBytes - 1) / kBaseBlockBytes, &summed);
  *blocks = summed.blocks;
  return error;
}

Errno BaseWriter::sum_blocks(uint64_t first, uint64_t end, Summed* summed) {
  std::vector<AllocationExtent> extents;
  std::memset(block_.get(), 0, kBaseBlockBytes);
  const uint32_t zero_sum = sum_of(block_.get());
  for (; first < end; first += kSettleBlocks) {
    const uint64_t count = std::min(kSettleBlocks, end - first);
    const uint64_t offset = first * kBaseBlockBytes;
    const uint64_t bytes = std::min(count * kBaseBlockBytes, size() - offset);
    if (const Errno error = base_->allocation(offset, bytes, &extents)) return error;
    std::vector<uint32_t> sums(count);
    if (const auto got = sums_->get(first, sums); !got.ok()) return errno_of(got.error());
    auto extent = extents.begin();
    uint64_t extent_end = extent->length;  // from `offset` on
    for (uint64_t i = 0; i < count; ++i) {
      while (extent_end <= i * kBaseBlockBytes) extent_end += (++extent)->length;
      if (sums[i] != kSumNone) continue;
      const bool is_hole = extent->zero && extent_end >= std::min((i + 1) * kBaseBlockBytes, bytes);
      if (!is_hole) {
        const Errno error = load(first + i);
        if (error == EIO) {
          summed->unread += 1;
          continue;
        }
        if (error != 0) return error;
      }
      sums[i] = is_hole ? zero_sum : sum_of(block_.get());
      summed->blocks += 1;
    }
    if (Outcome put = sums_->put(first, sums); !put.ok()) return errno_of(put.error());
  }
  if (Outcome synced = sums_->sync(); !synced.ok()) return errno_of(synced.error());
  return 0;
}

}  // namespace afterimage
