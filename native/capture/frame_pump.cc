#include "capture/frame_pump.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "os/assert.h"
#include "os/io_thread.h"

namespace afterimage {
namespace {

/// Of its time that the pump waits for a processor.
constexpr double kContended = 0.1;
/// Half as much time for what compresses, and some 8 % more bytes (LZ4 1.9, programs and texts).
constexpr int kAcceleration = 4;
/// Of records: with more, what a frame costs is little beside what they cost.
constexpr uint64_t kFrameWorthBytes = 128u << 10;
constexpr size_t kBufferBytes = kFrameHeadroomBytes + kFrameBytesMax;
constexpr size_t kPoolBytes = kFramePoolCount * kBufferBytes;
constexpr uint64_t kNowhere = UINT64_MAX;  // no record and no ending has this position
static_assert(kFrameHeadroomBytes % 64 == 0 && kFrameBytesMax % 64 == 0,
              "every frame begins on a cache line");

std::shared_ptr<std::byte[]> map_pool() {
  void* const pool = mmap(nullptr, kPoolBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pool == MAP_FAILED) throw std::bad_alloc();
  return {static_cast<std::byte*>(pool), [](std::byte* bytes) { munmap(bytes, kPoolBytes); }};
}

}  // namespace

FramePump::FramePump(Backlog* backlog, const SpoolOwner& owner, const CaptureGroup::Options& options)
    : backlog_(*backlog), options_(options), spool_(owner), pool_(map_pool()) {
  for (uint32_t i = kFramePoolCount; i > 0; --i) free_.push_back(i - 1);
  thread_ = std::thread([this] { run(); });
}

FramePump::~FramePump() { end(); }

void FramePump::end() {
  if (!thread_.joinable()) return;
  {
    const Lock lock(mutex_);
    stopping_ = true;
    session_.fetch_add(1, std::memory_order_relaxed);
    changed_.notify_all();
  }
  thread_.join();
  builder_.reset();
}

std::byte* FramePump::frame_bytes(uint32_t pool_index) const {
  return pool_.get() + pool_index * kBufferBytes + kFrameHeadroomBytes;
}

bool FramePump::is_interrupted() const { return session_.load(std::memory_order_relaxed) != session_seen_; }

// --- the pump thread ---

void FramePump::run() {
  enter_thread("frame-pump");
  run_queue_ = std::make_unique<RunQueue>();
  Lock lock(mutex_);
  while (!stopping_) {
    if (is_interrupted()) begin_session(lock);
    if (!shipping_ || free_.empty()) {
      changed_.wait(lock);
    } else if (Ending* const ending = reached_ending()) {
      ending->queued = true;
      link_ = 0;  // the next generation begins a chain of its own
      deliver(lock, ending->end);
    } else if (!backlog_.has(position_)) {
      sleep_until_published(lock);
    } else {
      linger(lock);
      if (!is_interrupted()) build_frame(lock);
    }
  }
}

void FramePump::begin_session(Lock&) {
  session_seen_ = session_.load(std::memory_order_relaxed);
  position_ = start_position_;
  after_lsn_ = start_after_lsn_;
  link_ = start_link_;
}

FramePump::Ending* FramePump::pending_ending() {
  const auto pending =
      std::find_if(endings_.begin(), endings_.end(), [](const Ending& e) { return !e.queued; });
  return pending == endings_.end() ? nullptr : &*pending;
}

FramePump::Ending* FramePump::reached_ending() {
  Ending* const pending = pending_ending();
  return pending != nullptr && pending->position == position_ ? pending : nullptr;
}

void FramePump::sleep_until_published(Lock& lock) {
  asleep_.store(true, std::memory_order_seq_cst);
  const auto has_work = [this] {
    return !asleep_.load(std::memory_order_relaxed) || is_interrupted() || reached_ending() != nullptr;
  };
  // Looked at once more after announcing the sleep: see CaptureRing::publish.
  if (!backlog_.has(position_)) changed_.wait(lock, has_work);
  asleep_.store(false, std::memory_order_relaxed);
}

void FramePump::wake() {
  if (!asleep_.exchange(false, std::memory_order_seq_cst)) return;  // another publisher does it
  const Lock lock(mutex_);                                          // it has looked, or it waits
  changed_.notify_one();
}

void FramePump::linger(Lock& lock) {
  const std::optional<uint64_t> published_ns = backlog_.time_at(position_);
  const auto collected = [this] { return backlog_.reserve_position() - position_; };
  if (!published_ns || collected() >= kFrameRawBytesMax) return;
  const uint64_t linger_ns = uint64_t{options_.linger_us} * 1000;
  const uint64_t age_ns = wait_for_age(lock, *published_ns, linger_ns);
  const uint64_t bytes = collected();
  if (bytes >= kFrameWorthBytes) return;
  const double worth_ns =
      static_cast<double>(age_ns) * kFrameWorthBytes / static_cast<double>(std::max<uint64_t>(bytes, 1));
  const uint64_t longest_ns = linger_ns * kLingersMax;
  wait_for_age(lock, *published_ns,
               worth_ns < static_cast<double>(longest_ns) ? static_cast<uint64_t>(worth_ns) : longest_ns);
}

uint64_t FramePump::wait_for_age(Lock& lock, uint64_t published_ns, uint64_t age_ns) {
  // The stamps are not a stopwatch: after a step of the clock this waits for all of it, or not at all.
  const auto age = [&] {
    const uint64_t now_ns = options_.clock().realtime_ns;
    return now_ns > published_ns ? now_ns - published_ns : 0;
  };
  if (const uint64_t already_ns = age(); already_ns < age_ns)
    changed_.wait_for(lock, std::chrono::nanoseconds(age_ns - already_ns),
                      [this] { return is_interrupted() || pending_ending() != nullptr; });
  return age();
}

void FramePump::build_frame(Lock& lock) {
  const uint32_t pool_index = free_.back();
  free_.pop_back();
  const uint64_t epoch = epoch_;
  building_ = true;
  lock.unlock();
  std::optional<Delivery> delivery = fill_frame(pool_index, epoch);
  lock.lock();
  building_ = false;
  const bool is_frame = delivery && std::holds_alternative<Frame>(*delivery);
  if (is_frame && !is_interrupted()) return deliver(lock, *delivery);
  free_.push_back(pool_index);
  idle_.notify_all();
  if (!delivery || is_interrupted()) return;
  shipping_ = false;
  deliver(lock, *delivery);
}

std::optional<FramePump::Delivery> FramePump::fill_frame(uint32_t pool_index, uint64_t epoch) {
  if (const auto loss = backlog_.loss(position_)) return StreamLoss{loss->code, loss->message};
  if (const auto file = backlog_.pin(position_)) return fill_from_spool(*file, pool_index, epoch);
  auto frame = fill_from_ring(pool_index, epoch);
  backlog_.unpin();
  return frame;
}

std::optional<FramePump::Delivery> FramePump::fill_from_ring(uint32_t pool_index, uint64_t epoch) {
  const auto next = [&](const RingRecord*, uint64_t position) { return backlog_.pinned_at(position); };
  return fill(backlog_.pinned_at(position_), next, pool_index, epoch);
}

std::optional<FramePump::Delivery> FramePump::fill_from_spool(const SpooledFile& file, uint32_t pool_index,
                                                              uint64_t epoch) {
  const auto record = spool_.at(file, position_);
  if (!record.ok()) return StreamLoss{record.error().code, record.error().message};
  const auto next = [&](const RingRecord* before, uint64_t) { return spool_.next(before); };
  return fill(*record, next, pool_index, epoch);
}

/// `next`: of a record and the position after it, null at the end of what can be read now.
template <typename Next>
std::optional<FramePump::Delivery> FramePump::fill(const RingRecord* record, Next next, uint32_t pool_index,
                                                   uint64_t epoch) {
  uint64_t position = position_;
  const auto advance = [&] {
    position += record->total_bytes;
    record = next(record, position);
  };
  while (record != nullptr && record->lsn <= after_lsn_) advance();
  if (record == nullptr) {
    position_ = position;
    return std::nullopt;
  }
  const uint64_t generation = record->generation;
  const uint32_t era = record->era;
  if (!builder_ || stream_.epoch != epoch || stream_.generation != generation) {
    stream_ = {options_.group, options_.member, epoch, generation};
    builder_ = std::make_unique<FrameBuilder>(stream_);
  }
  std::byte* const bytes = frame_bytes(pool_index);
  // Where others need the processors too, what is saved here is worth more than a tenth of the line.
  builder_->set_acceleration(run_queue_->waited() > kContended ? kAcceleration : 1);
  builder_->begin(bytes, record->lsn, era, link_);
  while (record != nullptr && record->generation == generation && record->era == era) {
    if (is_interrupted()) return std::nullopt;
    FrameBuilder::Record entry{.kind = static_cast<RecordKind>(record->kind),
                               .flags = record->flags,
                               .volume = record->volume,
                               .length = record->length,
                               .offset = record->offset,
                               .time_ns = record->time_ns};
#ifdef AFTERIMAGE_SABOTAGE_DROP_RECORD
    // Breaks R3 and R5: a captured write is missing, and nothing says so.
    if (entry.kind == RecordKind::kWrite && record->lsn % 500 == 0) entry = {.time_ns = record->time_ns};
#endif
    if (!builder_->add(entry, record->payload())) break;
    advance();
  }
  const FrameHeader header = builder_->finish();
  position_ = position;
  link_ = header.header_crc32c;
  return Frame{bytes, header, pool_index};
}

void FramePump::deliver(Lock& lock, const Delivery& delivery) {
  ready_.push_back(delivery);
  idle_.notify_all();
  if (!std::exchange(waiting_, false)) return;
  lock.unlock();
  {
    const Lock calling(on_ready_mutex_);
    if (on_ready_) on_ready_();
  }
  lock.lock();
}

// --- other threads ---

void FramePump::stream_ended(uint64_t position, const StreamEnd& end) {
  const Lock lock(mutex_);
  endings_.push_back({.position = position, .end = end});
  changed_.notify_one();
}

void FramePump::set_epoch(uint64_t epoch) {
  const Lock lock(mutex_);
  epoch_ = epoch;
}

void FramePump::generation_began(uint64_t epoch) {
  const Lock lock(mutex_);
  epoch_ = epoch;
  if (endings_.empty()) return;
  endings_.back().superseded = true;
  // Of a generation without records there is nothing to end a second time.
  if (endings_.size() > 1 && endings_[endings_.size() - 2].position == endings_.back().position)
    endings_.pop_back();
  while (!endings_.empty() && endings_.front().superseded &&
         endings_.front().position <= backlog_.first_position())
    endings_.pop_front();
}

void FramePump::start(uint64_t after_lsn, uint32_t link) {
  stop();
  const Lock lock(mutex_);
  shipping_ = true;
  start_after_lsn_ = after_lsn;
  start_link_ = link;
  place();
}

void FramePump::spool_found() {
  const Lock lock(mutex_);
  if (shipping_ && start_position_ == kNowhere) place();
}

/// Where the session begins. The mutex is held.
void FramePump::place() {
  const uint64_t position = backlog_.position_after(start_after_lsn_).value_or(kNowhere);
  start_position_ = position;
  for (Ending& ending : endings_)
    ending.queued = ending.position < position || (ending.position == position && ending.superseded);
  session_.fetch_add(1, std::memory_order_relaxed);
  changed_.notify_one();
}

void FramePump::stop() {
  Lock lock(mutex_);
  shipping_ = false;
  session_.fetch_add(1, std::memory_order_relaxed);
  changed_.notify_one();
  idle_.wait(lock, [this] { return !building_; });
  for (const Delivery& delivery : ready_)
    if (const Frame* const frame = std::get_if<Frame>(&delivery)) free_.push_back(frame->pool_index);
  ready_.clear();
}

void FramePump::forget_stream_ends() {
  const Lock lock(mutex_);
  AFTERIMAGE_ASSERT(!shipping_, "the place of a stream end among the frames");
  endings_.clear();
}

std::optional<FramePump::Delivery> FramePump::next() {
  const Lock lock(mutex_);
  if (ready_.empty()) {
    waiting_ = true;
    return std::nullopt;
  }
  const Delivery delivery = ready_.front();
  ready_.pop_front();
  if (const Frame* const frame = std::get_if<Frame>(&delivery)) lent_[frame->pool_index] = true;
  return delivery;
}

void FramePump::set_on_ready(std::function<void()> on_ready) {
  const Lock lock(on_ready_mutex_);
  on_ready_ = std::move(on_ready);
}

void FramePump::release_frame(uint32_t pool_index) {
  const Lock lock(mutex_);
  AFTERIMAGE_ASSERT(pool_index < kFramePoolCount && lent_[pool_index], "a frame that somebody still sends");
  lent_[pool_index] = false;
  free_.push_back(pool_index);
  changed_.notify_one();
}

}  // namespace afterimage
