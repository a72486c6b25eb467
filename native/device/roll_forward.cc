#include "device/roll_forward.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "journal/segment_appender.h"
#include "os/fd.h"

namespace afterimage {
namespace {

/// Makes the base at least `size` bytes long; returns how long it is. What it gains reads as zeroes, as what
/// lies beyond its end does.
Result<uint64_t> grow(const std::string& path, uint64_t size) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return Error{"BASE_MISSING", path + " does not exist", ENOENT};
  if (!file) return journal_error("open " + path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return journal_error("stat " + path, errno);
  const auto bytes = static_cast<uint64_t>(status.st_size);
  const uint64_t wanted = std::max((bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes, size);
  if (wanted > bytes && ::ftruncate(file.get(), static_cast<off_t>(wanted)) != 0)
    return journal_error("grow " + path, errno);
  return wanted;
}

/// The segments fail their checksums, or their disk does.
Error read_error(const std::string& path, Errno error) {
  return system_error(error == EBADMSG ? "SEGMENT_CORRUPT" : "IO_ERROR", "read the journal over " + path,
                      error);
}

}  // namespace

Result<std::unique_ptr<RollForward>> RollForward::open(PointSource source) {
  std::unique_ptr<RollForward> roll(new RollForward);
  roll->base_path_ = source.base_path;
  const auto bytes = grow(source.base_path, source.size);
  if (!bytes.ok()) return bytes.error();
  // Where the volume has shrunk its base has not: what was cut off became zero, should it grow again.
  source.size = *bytes;
  auto point = PointInTimeDevice::open(source);
  if (!point.ok()) return point.error();
  roll->source_ = std::move(*point);
  auto base = FileDevice::open(source.base_path, {.cache = FileDevice::Cache::kBuffered});
  if (!base.ok()) return base.error();
  roll->base_ = std::move(*base);
  roll->piece_ = std::make_unique_for_overwrite<std::byte[]>(kRollPieceBytes);
  return roll;
}

Result<RollForward::Progress> RollForward::advance(uint64_t bytes_max) {
  Progress progress;
  for (uint32_t windows = 0; progress.bytes_written < bytes_max;) {
    if (next_ == stretches_.size()) {
      if (looked_at_ == source_->size()) {
        progress.is_done = true;
        return progress;
      }
      if (windows++ == kRollWindowsMax) return progress;
      if (Outcome looked = look_ahead(); !looked.ok()) return looked.error();
      continue;
    }
    // A stretch may be far longer than what was asked for: its rest is left for the next call.
    PointInTimeDevice::Journaled& stretch = stretches_[next_];
    const PointInTimeDevice::Journaled piece{
        stretch.offset, std::min<uint64_t>(stretch.length, kRollPieceBytes), stretch.is_zero};
    if (Outcome applied = apply(piece); !applied.ok()) return applied.error();
    progress.bytes_written += piece.length;
    stretch.offset += piece.length;
    stretch.length -= piece.length;
    if (stretch.length == 0) ++next_;
  }
  return progress;
}

Outcome RollForward::look_ahead() {
  const uint64_t length = std::min(kRollWindowBytes, source_->size() - looked_at_);
  next_ = 0;
  if (const Errno error = source_->journaled(looked_at_, length, &stretches_))
    return read_error(base_path_, error);
  looked_at_ += length;
  return Nothing{};
}

Outcome RollForward::apply(const PointInTimeDevice::Journaled& stretch) {
  const auto [offset, length, is_zero] = stretch;
#ifdef AFTERIMAGE_SABOTAGE_ROLL_SKIPS_ZEROES  // breaks R6: what was set to zero shows what was there before
  if (is_zero) return Nothing{};
#endif
  if (is_zero) {
    if (const Errno error = base_->zero(offset, length, {}))
      return journal_error("write " + base_path_, error);
    return Nothing{};
  }
  if (const Errno error = source_->read(offset, length, piece_.get())) return read_error(base_path_, error);
  if (const Errno error = base_->write(offset, length, piece_.get(), {}))
    return journal_error("write " + base_path_, error);
  return Nothing{};
}

Outcome RollForward::sync() {
  if (const Errno error = base_->flush()) return journal_error("sync " + base_path_, error);
  return Nothing{};
}

}  // namespace afterimage
