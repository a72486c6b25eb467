#include "capture/capture_group.h"

#include <algorithm>
#include <array>
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

/// Why a stream ended, as its ring keeps it; 0 means that it has not.
constexpr std::array<const char*, 8> kEndReasons{"",       "RING_FULL",  "LSN_CEILING", "BACKING_FAILED",
                                                 "CLOSED", "SPOOL_FULL", "SPOOL_IO",    "VOLUME_GROWN"};
constexpr uint32_t kClosed = 4;

uint32_t number_of(const char* reason) {
  for (uint32_t i = 1; i < kEndReasons.size(); ++i)
    if (std::strcmp(reason, kEndReasons[i]) == 0) return i;
  return kClosed;
}

SpoolOwner owner_of(const CaptureGroup::Options& options, const CaptureRing& ring) {
  return {options.group, options.member, ring.id()};
}

Error invalid_watermark(uint64_t lsn, const char* what, uint64_t bound) {
  return Error{"WATERMARK_INVALID", "LSN " + std::to_string(lsn) + what + std::to_string(bound)};
}

}  // namespace

Result<std::unique_ptr<CaptureGroup>> CaptureGroup::create(const Options& options) {
  auto ring = CaptureRing::create(options.ring_bytes);
  if (!ring.ok()) return ring.error();
  const EraClock clock(options.clock, options.last_time_ns, options.era);
  std::unique_ptr<CaptureGroup> group(new CaptureGroup(options, std::move(*ring), clock));
  RingStream stream;
  stream.group = options.group;
  stream.member = options.member;
  group->ring_->set_stream(stream);
  group->remember();
  group->begin_spooling();
  return group;
}

Result<std::unique_ptr<CaptureGroup>> CaptureGroup::adopt(const Options& options, Fd memfd) {
  auto ring = CaptureRing::adopt(std::move(memfd));
  if (!ring.ok()) return ring.error();
  const RingStream& stream = (*ring)->stream();
  if (stream.group != options.group || stream.member != options.member)
    return Error{"RING_LAYOUT", "an inherited capture ring: it is another member's"};
  const std::optional<int64_t> offset_ns =
      stream.era_offset_ns == 0 ? std::nullopt : std::optional(stream.era_offset_ns);
  const EraClock clock(options.clock, stream.time_ns, stream.era, offset_ns);
  if (options.spool.bytes_max == 0 && (*ring)->spooled_position() < (*ring)->release_position())
    return Error{"SPOOL_CORRUPT", "there is no spool any more"};
  std::unique_ptr<CaptureGroup> group(new CaptureGroup(options, std::move(*ring), clock));
  if (const Outcome inherited = group->inherit(); !inherited.ok()) return inherited.error();
  group->begin_spooling();
  return group;
}

CaptureGroup::CaptureGroup(const Options& options, std::unique_ptr<CaptureRing> ring, EraClock clock)
    : ring_(std::move(ring)),
      backlog_(std::make_unique<Backlog>(ring_.get())),
      pump_(std::make_unique<FramePump>(backlog_.get(), owner_of(options, *ring_), options)),
      spooler_(options.spool.bytes_max == 0
                   ? nullptr
                   : std::make_unique<Spooler>(backlog_.get(), owner_of(options, *ring_), options.spool)),
      clock_(std::move(clock)),
      captured_time_ns_(clock_.last_ns()) {}

/// Where the predecessor was: what its ring says, and its last record, which is newer than that.
Outcome CaptureGroup::inherit() {
  const RingStream stream = ring_->stream();
  const RingRecord* const first = ring_->at(ring_->release_position());
  const RingRecord* const last = ring_->inherited_last();
  if (stream.end >= kEndReasons.size() || (first != nullptr && first->generation != stream.generation) ||
      (first != nullptr && first->lsn < stream.first_lsn))
    return Error{"RING_LAYOUT", "an inherited capture ring: its records are not those of its stream"};
  // What was confirmed and is still there: the predecessor was about to let go of it.
  backlog_->release(stream.released_lsn);
  generation_ = {0, stream.generation, stream.first_lsn, stream.lsn_ceiling};
  captured_lsn_ = std::max(stream.released_lsn, stream.first_lsn - (stream.generation != 0));
  if (last != nullptr) captured_lsn_ = std::max(captured_lsn_, last->lsn);
  if (last != nullptr && last->era >= stream.era)
    clock_.resume(std::max(last->time_ns, stream.time_ns), last->era);
  captured_time_ns_ = clock_.last_ns();
  shipped_lsn_ = released_lsn_ = resend_floor_lsn_ = stream.released_lsn;
  shipped_lsn_max_ = captured_lsn_;  // nobody knows better
  if (stream.generation == 0) return Nothing{};
  end_delivered_ = false;
  if (stream.end == 0) {
    mode_ = Mode::kStreaming;
  } else {
    end_reason_ = kEndReasons[stream.end];
    pump_->stream_ended(ring_->reserve_position(), {stream.generation, captured_lsn_, end_reason_});
  }
  return Nothing{};
}

void CaptureGroup::begin_spooling() {
  if (spooler_) spooler_->begin([this] { pump_->spool_found(); });
}

/// Leaves a successor what it needs. The sequence mutex is held, or nobody else has the group yet.
void CaptureGroup::remember() {
  RingStream stream = ring_->stream();
  stream.generation = generation_.generation;
  stream.first_lsn = generation_.first_lsn;
  stream.lsn_ceiling = generation_.lsn_ceiling;
  stream.released_lsn = released_lsn_;
  stream.time_ns = captured_time_ns_;
  stream.era_offset_ns = clock_.era_offset_ns();
  stream.era = clock_.era();
  stream.end = mode_ == Mode::kStreaming || end_reason_ == nullptr ? 0 : number_of(end_reason_);
  ring_->set_stream(stream);
}

CaptureGroup::~CaptureGroup() = default;

// --- any thread ---

CaptureGroup::Publication CaptureGroup::publish(const Record& record, const std::byte* payload) {
  const uint32_t payload_bytes = payload_bytes_of(record);
#ifdef AFTERIMAGE_SABOTAGE_WAIT_WHILE_FULL  // breaks R7: production waits until the receiver has made room
  while (mode() == Mode::kStreaming && ring_->used() + payload_bytes + 4096 > ring_->capacity())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
#endif
  RingRecord* slot = nullptr;
  {
    const std::lock_guard lock(sequence_);
    if (mode_ == Mode::kStreaming) {
      EraClock::Stamp stamp = clock_.take();
      while (stamp.opens_era && mode_ == Mode::kStreaming) {
        if (RingRecord* const step = give_number({.kind = RecordKind::kClock}, 0, stamp.time_ns)) {
          CaptureRing::publish(step);
          pump_->record_published();
          remember();
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
  // The ring may be gone as soon as the last of its records is published.
  const bool is_crowded = spooler_ && backlog_->is_ring_crowded();
  if (payload_bytes > 0) std::memcpy(slot->payload(), payload, payload_bytes);
  CaptureRing::publish(slot);
  pump_->record_published();
  if (spooler_) spooler_->record_reserved(is_crowded);
  return publication;
}

/// The record's LSN and place, or null when the stream had to be closed. The sequence mutex is held.
RingRecord* CaptureGroup::give_number(const Record& record, uint32_t payload_bytes, uint64_t time_ns) {
  if (mode_ != Mode::kStreaming) return nullptr;
  if (captured_lsn_ >= generation_.lsn_ceiling) {
    begin_tracking("LSN_CEILING");
    return nullptr;
  }
  RingHead head{.lsn = captured_lsn_ + 1,
                .time_ns = time_ns,
                .offset = record.offset,
                .generation = generation_.generation,
                .length = record.length,
                .era = clock_.era(),
                .volume = record.volume,
                .kind = static_cast<uint8_t>(record.kind),
                .flags = record.flags};
  RingRecord* const slot = ring_->reserve(payload_bytes, head);
  if (slot == nullptr) {
#ifdef AFTERIMAGE_SABOTAGE_TRACKING_SILENT
    return nullptr;  // breaks R5: the write is lost, and the stream goes on as if there had been none
#endif
    begin_tracking(full_reason());
    return nullptr;
  }
  captured_lsn_ = head.lsn;
  captured_time_ns_ = time_ns;
  ++records_;
  raw_bytes_ += payload_bytes;
  return slot;
}

/// What the spooler could not take from the ring, or not in time.
const char* CaptureGroup::full_reason() const {
  const char* const fault = spooler_ ? spooler_->fault() : nullptr;
  return fault != nullptr ? fault : "RING_FULL";
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
  end_reason_ = reason;
  remember();
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
  return ring_ && backlog_->is_crowded();
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
  const bool nothing_kept = ring_->used() == 0 && backlog_->extent().spooled_bytes == 0;
  if (next.first_lsn - 1 != captured_lsn_) lsn_gaps_[captured_lsn_] = next.first_lsn;
  generation_ = next;
  captured_lsn_ = next.first_lsn - 1;
  shipped_lsn_ = past_gaps(shipped_lsn_);
  shipped_lsn_max_ = captured_lsn_;
  if (nothing_kept) released_lsn_ = captured_lsn_;
  end_delivered_ = false;
  pump_->generation_began(next.epoch);
  mode_ = Mode::kStreaming;
  end_reason_ = nullptr;
  remember();
  return Nothing{};
}

void CaptureGroup::resume_generation(uint64_t epoch, uint64_t lsn_ceiling) {
  const std::lock_guard lock(sequence_);
  generation_.epoch = epoch;
  generation_.lsn_ceiling = std::max(generation_.lsn_ceiling, lsn_ceiling);
  pump_->set_epoch(epoch);
  remember();
}

void CaptureGroup::raise_ceiling(uint64_t lsn) {
  const std::lock_guard lock(sequence_);
  generation_.lsn_ceiling = std::max(generation_.lsn_ceiling, lsn);
  remember();
}

void CaptureGroup::resume_clock(uint64_t last_time_ns, uint32_t era) {
  const std::lock_guard lock(sequence_);
  if (std::pair(era, last_time_ns) <= std::pair(clock_.era(), clock_.last_ns())) return;
  clock_.resume(last_time_ns, era);
  captured_time_ns_ = clock_.last_ns();
  remember();
}

void CaptureGroup::abandon_stream() {
  pump_->stop();
  close_stream("CLOSED");
  pump_->forget_stream_ends();
  backlog_->forget();
  if (spooler_) spooler_->files_dropped();
  const std::lock_guard lock(sequence_);
  end_delivered_ = true;
  lsn_gaps_.clear();
  shipped_lsn_ = shipped_lsn_max_ = released_lsn_ = resend_floor_lsn_ = captured_lsn_;
  remember();
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
  pump_->start(durable_lsn, link);
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
  } else if (const StreamEnd* const end = std::get_if<StreamEnd>(&*delivery)) {
    if (end->generation == generation_.generation) end_delivered_ = true;
  }
  return delivery;
}

void CaptureGroup::set_on_ready(std::function<void()> on_ready) { pump_->set_on_ready(std::move(on_ready)); }

void CaptureGroup::release_frame(uint32_t pool_index) { pump_->release_frame(pool_index); }

Outcome CaptureGroup::release(uint64_t durable_lsn) {
  if (durable_lsn > shipped_lsn_)
    return invalid_watermark(durable_lsn, " is beyond the last one shipped, ", shipped_lsn_);
  if (durable_lsn <= released_lsn_) return Nothing{};
  {
    const std::lock_guard lock(sequence_);
    released_lsn_ = resend_floor_lsn_ = durable_lsn;
    remember();  // first: a successor releases what is said to be released
  }
  confirmed_lsn_ = durable_lsn;
  if (backlog_->release(durable_lsn) && spooler_) spooler_->files_dropped();
  std::erase_if(lsn_gaps_, [&](const auto& gap) { return gap.second <= durable_lsn; });
  return Nothing{};
}

CaptureGroup::Stats CaptureGroup::stats() const {
  Stats stats;
  stats.released_lsn = released_lsn_;
  stats.ring_bytes = ring_->capacity();
  const Backlog::Extent extent = backlog_->extent();
  stats.spool_used_bytes = extent.spooled_bytes;
  if (spooler_) {
    stats.spool_bytes = spooler_->bytes_max();
    stats.spool = spooler_->state();
  }
  const std::lock_guard lock(sequence_);
  stats.ring_used_bytes = ring_->used();
  if (end_reason_ != nullptr) stats.end_reason = end_reason_;
  stats.mode = mode_;
  stats.generation = generation_.generation;
  stats.lsn_ceiling = generation_.lsn_ceiling;
  stats.captured_lsn = captured_lsn_;
  stats.captured_time_ns = captured_time_ns_;
  // One that is still being copied was given its time just now.
  if (stats.ring_used_bytes > 0)
    stats.oldest_time_ns = extent.oldest_time_ns != 0 ? extent.oldest_time_ns : captured_time_ns_;
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
  if (spooler_) spooler_->end();
  backlog_->forget();
  if (spooler_) spooler_->remove_files();
  const std::lock_guard lock(sequence_);
  ring_.reset();
}

}  // namespace afterimage
