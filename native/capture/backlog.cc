#include "capture/backlog.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "os/assert.h"

namespace afterimage {

Backlog::Backlog(CaptureRing* ring)
    : ring_(*ring), is_awaited_(ring->spooled_position() < ring->release_position()) {
  if (!is_awaited_) ring_.set_spooled_position(kNothingSpooled);
}

// --- the pump ---

bool Backlog::has(uint64_t position) const {
  const Lock lock(mutex_);
  return position < ring_.release_position() || ring_.at(position) != nullptr;
}

std::optional<uint64_t> Backlog::time_at(uint64_t position) const {
  const Lock lock(mutex_);
  if (position < ring_.release_position()) return std::nullopt;
  const RingRecord* const record = ring_.at(position);
  return record == nullptr ? std::nullopt : std::optional(record->time_ns);
}

std::optional<Error> Backlog::loss(uint64_t position) const {
  const Lock lock(mutex_);
  return position < ring_.release_position() ? loss_ : std::nullopt;
}

std::optional<SpooledFile> Backlog::pin(uint64_t position) {
  const Lock lock(mutex_);
  if (position >= ring_.release_position()) {
    pinned_ = position;
    return std::nullopt;
  }
  for (const SpooledFile& file : files_)
    if (position < file.end) return file;
  AFTERIMAGE_ASSERT(false, "spool files end where the ring begins");
  return std::nullopt;
}

void Backlog::unpin() {
  const Lock lock(mutex_);
  pinned_ = kNotPinned;
  unpinned_.notify_one();
}

// --- any thread ---

uint64_t Backlog::first_position() const {
  const Lock lock(mutex_);
  return std::min(ring_.spooled_position(), ring_.release_position());
}

uint64_t Backlog::ring_position_after(uint64_t lsn) const {
  uint64_t position = ring_.release_position();
  for (const RingRecord* record; (record = ring_.at(position)) != nullptr && record->lsn <= lsn;)
    position += record->total_bytes;
  return position;
}

/// Whether all that a predecessor has spooled has LSNs up to `lsn`. The spooler takes from a ring that is
/// crowded: something always follows.
bool Backlog::is_all_spooled_before(uint64_t lsn) const {
  const RingRecord* const first = ring_.at(ring_.release_position());
  return first != nullptr && first->lsn <= lsn + 1;
}

std::optional<uint64_t> Backlog::position_after(uint64_t lsn) const {
  const Lock lock(mutex_);
  if (!is_spool_known() && !is_all_spooled_before(lsn))
    return is_awaited_ ? std::nullopt : std::optional(ring_.spooled_position());
  for (const SpooledFile& file : files_)
    if (file.last_lsn > lsn) return file.position;
  return ring_position_after(lsn);
}

void Backlog::drop_front() {
  dropped_.push_back(std::move(files_.front().path));
  files_.pop_front();
  // First: until the ring's end has moved on, this says that nothing of it is missing.
  ring_.set_spooled_position(files_.empty() ? kNothingSpooled : files_.front().position);
}

void Backlog::drop_confirmed() {
  while (!files_.empty() && files_.front().last_lsn <= confirmed_lsn_) drop_front();
  if (files_.empty()) ring_.release(ring_position_after(confirmed_lsn_));
}

bool Backlog::release(uint64_t lsn) {
  const Lock lock(mutex_);
  confirmed_lsn_ = lsn;
  if (!is_spool_known()) {
    if (!is_all_spooled_before(lsn)) return false;
    is_awaited_ = false;
    loss_.reset();
    ring_.set_spooled_position(kNothingSpooled);
  }
  drop_confirmed();
  return !dropped_.empty();
}

void Backlog::forget() {
  Lock lock(mutex_);
  if (!is_spool_known()) ring_.set_spooled_position(kNothingSpooled);
  is_awaited_ = false;
  loss_.reset();
  while (!files_.empty() || ring_.used() > 0) {
    if (!files_.empty()) {
      drop_front();
    } else if (const RingRecord* const record = ring_.at(ring_.release_position())) {
      ring_.release(ring_.release_position() + record->total_bytes);
    } else {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      lock.lock();
    }
  }
}

Backlog::Extent Backlog::extent() const {
  const Lock lock(mutex_);
  const uint64_t ring_begin = ring_.release_position();
  if (!files_.empty()) return {ring_begin - files_.front().position, files_.front().first_time_ns};
  const RingRecord* const oldest = ring_.at(ring_begin);
  return {ring_begin - std::min(ring_.spooled_position(), ring_begin),
          oldest == nullptr ? 0 : oldest->time_ns};
}

// --- the spooler ---

Backlog::Stretch Backlog::awaited() const {
  const Lock lock(mutex_);
  return is_awaited_ ? Stretch{ring_.spooled_position(), ring_.release_position()} : Stretch{};
}

void Backlog::found(const Result<SpoolSurvey>& survey) {
  const Lock lock(mutex_);
  if (!std::exchange(is_awaited_, false)) {
    if (survey.ok())
      for (const SpooledFile& file : survey->files) dropped_.push_back(file.path);
    return;
  }
  if (!survey.ok()) {
    loss_ = survey.error();
    return;
  }
  const SpooledFile& last = survey->files.back();
  const RingRecord* const next = ring_.at(ring_.release_position());
  if (next == nullptr || next->lsn != last.last_lsn + 1 || next->generation != last.generation) {
    loss_ =
        Error{"SPOOL_CORRUPT", "the records of an inherited capture ring do not follow those of its spool"};
    return;
  }
  files_.assign(survey->files.begin(), survey->files.end());
  drop_confirmed();
}

bool Backlog::is_lost() const {
  const Lock lock(mutex_);
  return loss_.has_value();
}

std::optional<SpoolBatch> Backlog::copy_oldest(std::byte* bytes) {
  const Lock lock(mutex_);
  const uint64_t begin = ring_.release_position();
  const RingRecord* record = ring_.at(begin);
  if (record == nullptr) return std::nullopt;
  SpoolBatch batch{.position = begin,
                   .end = begin,
                   .generation = record->generation,
                   .first_lsn = record->lsn,
                   .last_lsn = record->lsn,
                   .first_time_ns = record->time_ns,
                   .bytes = bytes};
  std::byte* into = bytes + sizeof(SpoolBatchHeader);
  while (record != nullptr && record->generation == batch.generation &&
         batch.end - begin + record->total_bytes <= kSpoolBatchBytesMax) {
    std::memcpy(into, static_cast<const void*>(record), record->total_bytes);
#ifdef AFTERIMAGE_SABOTAGE_SPOOL_SPOILS
    // Breaks R5: what comes out of the spool is not what went in, and nothing says so.
    if (record->kind == static_cast<uint8_t>(RecordKind::kWrite) && record->lsn % 50 == 0)
      std::memset(into + sizeof(RingRecord), 0, sizeof(RingRecord));
#endif
    into += record->total_bytes;
    batch.end += record->total_bytes;
    batch.last_lsn = record->lsn;
    ++batch.record_count;
    record = ring_.at(batch.end);
  }
  return batch;
}

bool Backlog::hand_over(const SpoolBatch& batch, const std::string& path, bool is_new) {
  Lock lock(mutex_);
  unpinned_.wait(lock, [&] { return pinned_ >= batch.end; });
  if (ring_.release_position() != batch.position) return false;
  if (!is_new && (files_.empty() || files_.back().path != path)) return false;
  if (is_new) {
    files_.push_back({.path = path,
                      .generation = batch.generation,
                      .position = batch.position,
                      .end = batch.position,
                      .first_lsn = batch.first_lsn,
                      .last_lsn = 0,
                      .first_time_ns = batch.first_time_ns});
    if (files_.size() == 1) ring_.set_spooled_position(batch.position);
  }
  files_.back().end = batch.end;
  files_.back().last_lsn = batch.last_lsn;
  ring_.release(batch.end);
  return true;
}

Backlog::Files Backlog::files(const std::string& path) const {
  const Lock lock(mutex_);
  return {files_.size() + dropped_.size(), !files_.empty() && files_.back().path == path};
}

std::vector<std::string> Backlog::take_dropped() {
  const Lock lock(mutex_);
  return std::exchange(dropped_, {});
}

}  // namespace afterimage
