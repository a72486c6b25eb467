#include "device/roll_forward.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "journal/segment_appender.h"

namespace afterimage {
namespace {

/// The segments fail their checksums, or their disk does.
Error read_error(const std::string& path, Errno error) {
  return system_error(error == EBADMSG ? "SEGMENT_CORRUPT" : "IO_ERROR", "read the journal over " + path,
                      error);
}

}  // namespace

Result<std::unique_ptr<RollForward>> RollForward::open(PointSource source) {
  std::unique_ptr<RollForward> roll(new RollForward);
  roll->base_path_ = source.base_path;
  const auto bytes = BaseWriter::grow(source.base_path, source.size);
  if (!bytes.ok()) return bytes.error();
  // Where the volume has shrunk its base has not: what was cut off became zero, should it grow again.
  source.size = *bytes;
  auto point = PointInTimeDevice::open(source);
  if (!point.ok()) return point.error();
  roll->source_ = std::move(*point);
  auto base = BaseWriter::open(source.base_path);
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
      if (unsettled_ >= kRollUnsettledMax) {
        if (Outcome synced = sync(); !synced.ok()) return synced.error();
        return progress;
      }
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
  if (Outcome prepared = prepare(); !prepared.ok()) return prepared;
  looked_at_ += length;
  return Nothing{};
}

/// Takes away the checksums of all blocks that the window writes into, together.
Outcome RollForward::prepare() {
  // Zeroes and data that meet: together they may set all of a block.
  std::vector<BaseWriter::Range> ranges;
  for (const auto& [offset, length, is_zero] : stretches_) {
    if (!ranges.empty() && ranges.back().offset + ranges.back().length == offset)
      ranges.back().length += length;
    else
      ranges.push_back({offset, length});
  }
  const auto failed = [this](Errno error) {
    stretches_.clear();
    return journal_error("write " + base_path_, error);
  };
  bad_offsets_.clear();
  if (const Errno error = base_->check(ranges, &bad_offsets_)) return failed(error);
  if (!bad_offsets_.empty()) {
    stretches_.clear();
    return Error{"BASE_CORRUPT", base_path_ + ", at byte " + std::to_string(bad_offsets_.front()), 0};
  }
  if (const Errno error = base_->prepare(ranges)) return failed(error);
  for (const auto& [offset, length] : ranges)
    unsettled_ += (offset + length - 1) / kBaseBlockBytes - offset / kBaseBlockBytes + 1;
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
  unsettled_ = 0;
  return Nothing{};
}

}  // namespace afterimage
