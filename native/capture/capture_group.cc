#include "capture/capture_group.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "capture/frame_pump.h"
#include "os/assert.h"

namespace afterimage {
namespace {

using Record = FrameBuilder::Record;

uint32_t payload_bytes_of(const Record& record) {
  return record.kind == RecordKind::kWrite ? record.length : 0;
}

bool modifies(const Record& record) {
  return record.kind == RecordKind::kWrite || record.kind == RecordKind::kZero;
}

Error invalid_watermark(uint64_t lsn, const char* what, uint64_t bound) {
  return Error{"WATERMARK_INVALID", "LSN " + std::to_string(lsn) + what + std::to_string(bound)};
}

}  // namespace

Result<std::unique_ptr<CaptureGroup>> CaptureGroup::create(const Options& options) {
  auto ring = CaptureRing::create(options.ring_bytes);
  if (!ring.ok()) return ring.error();
  return std::unique_ptr<CaptureGroup>(new CaptureGroup(options, std::move(*ring)));
}

CaptureGroup::CaptureGroup(const Options& options, std::unique_ptr<CaptureRing> ring)
    : ring_(std::move(ring)),
      pump_(std::make_unique<FramePump>(ring_.get(), options)),
      clock_(options.clock, options.last_time_ns, options.era),
      captured_time_ns_(options.last_time_ns) {}

CaptureGroup::~CaptureGroup() = default;

// --- any thread ---

CaptureGroup::Publication CaptureGroup::publish(const Record& record, const std::byte* payload) {
  const uint32_t payload_bytes = payload_bytes_of(record);
  RingRecord* slot = nullptr;
  {
    const std::lock_guard lock(sequence_);
    if (mode_ == Mode::kStreaming) {
      EraClock::Stamp stamp = clock_.take();
      while (stamp.opens_era && mode_ == Mode::kStreaming) {
        if (RingRecord* const step = give_number({.kind = RecordKind::kClock}, 0, stamp.time_ns)) {
          CaptureRing::publish(step);
          pump_->record_published();
        }
        stamp = clock_.take();
      }
      slot = give_number(record, payload_bytes, stamp.time_ns);
    }
    if (slot == nullptr) {
      untracked_records_ += modifies(record);
      return {};
    }
  }
  const Publication publication{slot->lsn, slot->time_ns};
  if (payload_bytes > 0) std::memcpy(slot->payload(), payload, payload_bytes);
  CaptureRing::publish(slot);
  pump_->record_published();
  return publication;
}

/// The record's LSN and place, or null when the stream had to be closed. The sequence mutex is held.
RingRecord* CaptureGroup::give_number(const Record& record, uint32_t payload_bytes, uint64_t time_ns) {
  if (mode_ != Mode::kStreaming) return nullptr;
  if (captured_lsn_ >= generation_.lsn_ceiling) {
    begin_tracking("LSN_CEILING");
    return nullptr;
  }
  RingRecord* const slot = ring_->reserve(payload_bytes);
  if (slot == nullptr) {
#ifdef AFTERIMAGE_SABOTAGE_TRACKING_SILENT
    return nullptr;  // breaks R5: the write is lost, and the stream goes on as if there had been none
#endif
    begin_tracking("RING_FULL");
    return nullptr;
  }
  slot->lsn = ++captured_lsn_;
  slot->time_ns = captured_time_ns_ = time_ns;
  slot->offset = record.offset;
  slot->length = record.length;
  slot->era = clock_.era();
  slot->generation = generation_.generation;
  slot->volume = record.volume;
  slot->kind = static_cast<uint8_t>(record.kind);
  slot->flags = record.flags;
  ++records_;
  raw_bytes_ += payload_bytes;
  return slot;
}

void CaptureGroup::close_stream(const char* reason) {
  const std::lock_guard lock(sequence_);
  begin_tracking(reason);
}

/// The sequence mutex is held. Records that have their place are still being copied into it: the pump waits
/// for them.
void CaptureGroup::begin_tracking(const char* reason) {
  if (mode_ == Mode::kTracking) return;
  mode_ = Mode::kTracking;
  pump_->stream_ended(ring_->reserve_position(), {generation_.generation, captured_lsn_, reason});
}

CaptureGroup::Publication CaptureGroup::position() const {
  const std::lock_guard lock(sequence_);
  return {captured_lsn_, clock_.now()};
}

CaptureGroup::Standing CaptureGroup::standing() const {
  // Before the mode: what release() is given of a stream that was abandoned is not read as that of a live
  // one.
  const uint64_t confirmed_lsn = confirmed_lsn_;
  const std::lock_guard lock(sequence_);
  return {mode_ == Mode::kStreaming, generation_.generation, captured_lsn_,
          std::max(confirmed_lsn, generation_.first_lsn - 1)};
}

CaptureGroup::Mode CaptureGroup::mode() const {
  const std::lock_guard lock(sequence_);
  return mode_;
}

bool CaptureGroup::is_crowded() const {
  const std::lock_guard lock(sequence_);
  return ring_ && ring_->used() > ring_->capacity() / 2;
}

// --- control thread ---

Outcome CaptureGroup::begin_generation(const Generation& next) {
  const std::lock_guard lock(sequence_);
  const auto invalid = [&](const char* why) {
    return Error{"GENERATION_INVALID", "generation " + std::to_string(next.generation) + ": " + why};
  };
  if (mode_ != Mode::kTracking) return invalid("the stream of the one before it is open");
  if (!end_delivered_) return invalid("the end of the stream before it was not delivered");
  if (next.generation <= generation_.generation) return invalid("generations rise");
  if (next.first_lsn <= captured_lsn_) return invalid("its first LSN was used before");
  const bool nothing_kept = ring_->used() == 0;
  if (next.first_lsn - 1 != captured_lsn_) lsn_gaps_[captured_lsn_] = next.first_lsn;
  generation_ = next;
  captured_lsn_ = next.first_lsn - 1;
  shipped_lsn_ = past_gaps(shipped_lsn_);
  shipped_lsn_max_ = captured_lsn_;
  if (nothing_kept) released_lsn_ = captured_lsn_;
  end_delivered_ = false;
  pump_->generation_began(next.epoch);
  mode_ = Mode::kStreaming;
  return Nothing{};
}

void CaptureGroup::raise_ceiling(uint64_t lsn) {
  const std::lock_guard lock(sequence_);
  generation_.lsn_ceiling = std::max(generation_.lsn_ceiling, lsn);
}

void CaptureGroup::abandon_stream() {
  pump_->stop();
  close_stream("CLOSED");
  pump_->forget_stream_ends();
  forget_records();
  const std::lock_guard lock(sequence_);
  end_delivered_ = true;
  lsn_gaps_.clear();
  shipped_lsn_ = shipped_lsn_max_ = released_lsn_ = resend_floor_lsn_ = captured_lsn_;
}

/// Nothing is reserved any more; what was is complete as soon as its writer has copied it.
void CaptureGroup::forget_records() {
  while (ring_->used() > 0) {
    if (const RingRecord* const record = ring_->at(ring_->release_position())) {
      ring_->release(ring_->release_position() + record->total_bytes);
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

uint64_t CaptureGroup::position_after(uint64_t lsn) const {
  uint64_t position = ring_->release_position();
  for (const RingRecord* record; (record = ring_->at(position)) != nullptr && record->lsn <= lsn;)
    position += record->total_bytes;
  return position;
}

/// Who has everything up to the last LSN of a generation has everything below the first of the next.
uint64_t CaptureGroup::past_gaps(uint64_t lsn) const {
  for (auto gap = lsn_gaps_.find(lsn); gap != lsn_gaps_.end(); gap = lsn_gaps_.find(lsn))
    lsn = gap->second - 1;
  return lsn;
}

Outcome CaptureGroup::start_shipping(uint64_t durable_lsn, uint32_t link) {
  if (durable_lsn > shipped_lsn_max_)
    return invalid_watermark(durable_lsn, " is beyond the last one shipped, ", shipped_lsn_max_);
  if (durable_lsn < resend_floor_lsn_) {
    return invalid_watermark(durable_lsn, " is before one that the receiver had confirmed, ",
                             resend_floor_lsn_);
  }
  pump_->start(position_after(durable_lsn), link);
  shipped_lsn_ = past_gaps(durable_lsn);
  return Nothing{};
}

void CaptureGroup::stop_shipping() { pump_->stop(); }

std::optional<CaptureGroup::Delivery> CaptureGroup::next() {
  std::optional<Delivery> delivery = pump_->next();
  if (!delivery) return delivery;
  const std::lock_guard lock(sequence_);
  if (const Frame* const frame = std::get_if<Frame>(&*delivery)) {
    AFTERIMAGE_ASSERT(frame->header.first_lsn > shipped_lsn_, "frames leave once and in order");
    AFTERIMAGE_ASSERT(frame->header.last_lsn <= captured_lsn_, "shipped ≤ captured");
    shipped_lsn_ = past_gaps(frame->header.last_lsn);
    shipped_lsn_max_ = std::max(shipped_lsn_max_, shipped_lsn_);
  } else if (std::get<StreamEnd>(*delivery).generation == generation_.generation) {
    end_delivered_ = true;
  }
  return delivery;
}

void CaptureGroup::set_on_ready(std::function<void()> on_ready) { pump_->set_on_ready(std::move(on_ready)); }

void CaptureGroup::release_frame(uint32_t pool_index) { pump_->release_frame(pool_index); }

Outcome CaptureGroup::release(uint64_t durable_lsn) {
  if (durable_lsn > shipped_lsn_)
    return invalid_watermark(durable_lsn, " is beyond the last one shipped, ", shipped_lsn_);
  if (durable_lsn <= released_lsn_) return Nothing{};
  released_lsn_ = resend_floor_lsn_ = durable_lsn;
  confirmed_lsn_ = durable_lsn;
  ring_->release(position_after(durable_lsn));
  std::erase_if(lsn_gaps_, [&](const auto& gap) { return gap.second <= durable_lsn; });
  return Nothing{};
}

CaptureGroup::Stats CaptureGroup::stats() const {
  Stats stats;
  stats.released_lsn = released_lsn_;
  stats.ring_bytes = ring_->capacity();
  const RingRecord* const oldest = ring_->at(ring_->release_position());
  const std::lock_guard lock(sequence_);
  stats.ring_used_bytes = ring_->used();
  stats.mode = mode_;
  stats.generation = generation_.generation;
  stats.captured_lsn = captured_lsn_;
  stats.captured_time_ns = captured_time_ns_;
  // One that is still being copied was given its time just now.
  if (stats.ring_used_bytes > 0)
    stats.oldest_time_ns = oldest != nullptr ? oldest->time_ns : captured_time_ns_;
  stats.records = records_;
  stats.raw_bytes = raw_bytes_;
  stats.untracked_records = untracked_records_;
  stats.era = clock_.era();
  return stats;
}

int CaptureGroup::ring_memfd() const { return ring_->memfd(); }

std::shared_ptr<void> CaptureGroup::frame_pool() const { return pump_->pool(); }

void CaptureGroup::close() {
  close_stream("CLOSED");
  pump_->end();
  if (!ring_) return;
  forget_records();
  const std::lock_guard lock(sequence_);
  ring_.reset();
}

}  // namespace afterimage
