#include "device/captured_device.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "os/assert.h"
#include "os/pinned_memory.h"

namespace afterimage {
namespace {

using std::chrono::milliseconds;

/// A failed request's range is read again with its extent locked: a longer one is not worth the writers that
/// wait.
constexpr uint64_t kInDoubtBytesMax = 64 << 20;
constexpr milliseconds kCrowdedWait{100};  // a worker thread is not kept for longer
constexpr milliseconds kCrowdedPoll{5};

uint64_t sector_floor(uint64_t bytes) { return bytes / kSectorBytes * kSectorBytes; }
uint64_t sector_ceiling(uint64_t bytes) { return sector_floor(bytes + kSectorBytes - 1); }

/// Calls `piece(begin, length)` for stretches of at most `bytes_max`, in order.
template <typename Piece>
void in_pieces(uint64_t begin, uint64_t end, uint32_t bytes_max, Piece piece) {
  while (begin < end) {
    const auto length = static_cast<uint32_t>(std::min<uint64_t>(end - begin, bytes_max));
    piece(begin, length);
    begin += length;
  }
}

/// Each thread's own, page-aligned so that a backing in direct mode reads straight into it: made by
/// prepare_thread(), else at its first need. Null when there is no memory for it.
std::byte* bounce_buffer() {
  thread_local std::optional<PinnedMemory> buffer;
  if (!buffer) {
    auto allocated = PinnedMemory::allocate(kRecordBytesMax);
    if (!allocated.ok()) return nullptr;
    buffer.emplace(std::move(*allocated));
  }
  return buffer->bytes().data();
}

#ifdef AFTERIMAGE_SABOTAGE_LSN_AFTER_ACK
// Breaks R1: a small write is acknowledged before it has its LSN.
std::atomic<int> late_publications{0};
uint64_t publish_later(CaptureGroup* group, const FrameBuilder::Record& record, const std::byte* content) {
  ++late_publications;
  std::thread([group, record, copy = std::vector<std::byte>(content, content + record.length)] {
    std::this_thread::sleep_for(milliseconds(1));
    group->publish(record, copy.data());
    --late_publications;
  }).detach();
  return 0;
}
#endif

}  // namespace

CapturedDevice::CapturedDevice(std::shared_ptr<BlockDevice> backing, CaptureGroup* group,
                               uint16_t volume_number, std::shared_ptr<DirtyLog> log,
                               std::shared_ptr<InFlightTable> in_flight, const DirtyLogCleaner::Pace& pace)
    : backing_(std::move(backing)),
      size_(backing_->size()),
      group_(group),
      volume_(volume_number),
      log_(std::move(log)),
      in_flight_(std::move(in_flight)) {
  AFTERIMAGE_ASSERT(volume_number <= kVolumeNumberMax, "records that every reader accepts");
  if (log_ == nullptr || read_only()) return;
  log_->keep_doubts_in(in_flight_);
  cleaner_ = std::make_unique<DirtyLogCleaner>(
      log_.get(), backing_.get(), [group] { return group->standing(); }, pace);
}

CapturedDevice::~CapturedDevice() {
#ifdef AFTERIMAGE_SABOTAGE_LSN_AFTER_ACK
  while (late_publications > 0) std::this_thread::sleep_for(milliseconds(1));  // they use the group
#endif
}

uint64_t CapturedDevice::size() const { return size_; }
uint32_t CapturedDevice::block_size() const { return backing_->block_size(); }
bool CapturedDevice::read_only() const { return backing_->read_only(); }
bool CapturedDevice::can_fast_zero() const { return backing_->can_fast_zero(); }

Errno CapturedDevice::prepare_thread() {
  if (bounce_buffer() == nullptr) return ENOMEM;
  return backing_->prepare_thread();
}

/// A request of production from its begin to its end.
class CapturedDevice::Request {
 public:
  Request(CapturedDevice& device, LatencyHistogram& latency) : device_(device), timer_(latency) {
    device_.under_way_.fetch_add(1, std::memory_order_relaxed);
  }
  ~Request() {
    device_.ended_.fetch_add(1, std::memory_order_relaxed);
    device_.under_way_.fetch_sub(1, std::memory_order_relaxed);
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

 private:
  CapturedDevice& device_;
  const LatencyHistogram::Timer timer_;
};

/// What the disk takes for it is the disk's: who watches this device does not take it for stuck meanwhile.
template <typename Work>
Errno CapturedDevice::at_backing(Work work) {
  at_backing_.fetch_add(1, std::memory_order_relaxed);
  const Errno error = work();
  at_backing_.fetch_sub(1, std::memory_order_relaxed);
  return error;
}

/// The heart of the product: the order in which a modification happens (R1, R2, R4).
template <typename CarryOut, typename Journal>
Errno CapturedDevice::modify(uint64_t offset, uint64_t length, const RequestOptions& options,
                             CarryOut carry_out, Journal journal) {
  const uint64_t begin = sector_floor(offset);
  const uint64_t end = sector_ceiling(offset + length);
  RequestOptions for_backing = options;
  for_backing.executed = nullptr;  // only this layer knows when the request is complete

  const ExtentLock::Guard extent(extents_, begin, end);
#ifndef AFTERIMAGE_SABOTAGE_MARK_AFTER_WRITE
  const DirtyLog::Writer inside(log_.get(), begin, end);
#endif
  const InFlightTable::Entry in_flight(in_flight_.get(), begin, end);
#ifdef AFTERIMAGE_SABOTAGE_PUBLISH_BEFORE_BACKING
  journal();  // breaks R2 and R3: the journal runs ahead of what the backing holds, also where the write then
              // fails
  std::this_thread::sleep_for(std::chrono::microseconds(200));
#endif
  if (const Errno error = at_backing([&] { return carry_out(for_backing); }); error != 0) {
    if (options.fast_only && error == ENOTSUP) return error;  // untouched, and no failure of the backing
    if (backing_->has_flush_failed()) note_lost_writes();
    if (end - begin > kInDoubtBytesMax || journal_backing(begin, end, 0, nullptr) != 0)
      group_->close_stream("BACKING_FAILED");
    return counted(error);
  }
#ifdef AFTERIMAGE_SABOTAGE_MARK_AFTER_WRITE
  const DirtyLog::Writer inside(log_.get(), begin, end);  // breaks R8: a crash before it leaves no mark
#endif
#ifndef AFTERIMAGE_SABOTAGE_PUBLISH_BEFORE_BACKING
  journal();
#endif
#ifndef AFTERIMAGE_SABOTAGE_SLOT_NOT_MARKED
  if (options.executed != nullptr) options.executed->store(1, std::memory_order_release);
#endif
  return 0;
}

Errno CapturedDevice::write(uint64_t offset, uint64_t length, const std::byte* from,
                            const RequestOptions& options) {
  if (const Errno error = refusal(offset, length, ENOSPC); error != 0 || length == 0) return error;
  const Request request(*this, write_latency_);
  writes_.fetch_add(1, std::memory_order_relaxed);
  write_bytes_.fetch_add(length, std::memory_order_relaxed);
  return modify(
      offset, length, options,
      [&](const RequestOptions& for_backing) { return backing_->write(offset, length, from, for_backing); },
      [&] { journal_content(offset, length, from); });
}

Errno CapturedDevice::zero(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (const Errno error = refusal(offset, length, ENOSPC); error != 0 || length == 0) return error;
  const Request request(*this, write_latency_);
  writes_.fetch_add(1, std::memory_order_relaxed);
  write_bytes_.fetch_add(length, std::memory_order_relaxed);
  return modify(
      offset, length, options,
      [&](const RequestOptions& for_backing) { return backing_->zero(offset, length, for_backing); },
      [&] { journal_zero(offset, length, 0); });
}

Errno CapturedDevice::trim(uint64_t offset, uint64_t length, const RequestOptions& options) {
  if (const Errno error = refusal(offset, length, EINVAL); error != 0 || length == 0) return error;
  const Request request(*this, write_latency_);
  writes_.fetch_add(1, std::memory_order_relaxed);
  write_bytes_.fetch_add(length, std::memory_order_relaxed);
  return modify(
      offset, length, options,
      [&](const RequestOptions& for_backing) { return backing_->trim(offset, length, for_backing); },
      [&] { journal_zero(offset, length, kRecordTrim); });
}

Errno CapturedDevice::flush() {
  const Request request(*this, flush_latency_);
  const uint64_t ticket = log_ != nullptr ? log_->flush_began() : 0;
  const Errno error = at_backing([&] { return backing_->flush(); });
  if (log_ != nullptr) log_->flush_ended(ticket, error == 0);
  if (error != 0) return counted(error);
  if (!read_only()) group_->publish({.kind = RecordKind::kFlush, .volume = volume_}, nullptr);
  return 0;
}

Errno CapturedDevice::read(uint64_t offset, uint64_t length, std::byte* into) {
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  const Request request(*this, read_latency_);
  reads_.fetch_add(1, std::memory_order_relaxed);
  read_bytes_.fetch_add(length, std::memory_order_relaxed);
  return counted(at_backing([&] { return backing_->read(offset, length, into); }));
}

Errno CapturedDevice::read_past_cache(uint64_t offset, uint64_t length, std::byte* into) {
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  return backing_->read_past_cache(offset, length, into);
}

Errno CapturedDevice::allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) {
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  return backing_->allocation(offset, length, extents);
}

Errno CapturedDevice::republish(uint64_t offset, uint64_t length, uint64_t* lsn) {
  *lsn = 0;
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  if (offset % kSectorBytes != 0 || length % kSectorBytes != 0 || length > kRecordBytesMax) return EINVAL;
  if (length == 0) return 0;
  for (milliseconds waited{0}; group_->is_crowded(); waited += kCrowdedPoll) {
    if (group_->mode() == CaptureGroup::Mode::kTracking) return 0;
    if (waited >= kCrowdedWait) return EAGAIN;
    std::this_thread::sleep_for(kCrowdedPoll);
  }
  const ExtentLock::Guard extent(extents_, offset, offset + length);
  // What is compared because nothing is known of it may not be durable on the backing either.
  const DirtyLog::Writer inside(log_.get(), offset, offset + length);
  return counted(journal_backing(offset, offset + length, kRecordResync, lsn));
}

Errno CapturedDevice::read_settled(uint64_t offset, uint64_t length, std::byte* to, uint64_t* lsn) {
  *lsn = 0;
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  if (offset % kSectorBytes != 0 || length % kSectorBytes != 0 || length > kRecordBytesMax) return EINVAL;
  if (length == 0) return 0;
  // Nobody is between the backing and the ring in there: what was written is published, and nothing else is
  // there.
  const ExtentLock::Guard extent(extents_, offset, offset + length);
  const CaptureGroup::Standing before = group_->standing();
  if (const Errno error = at_backing([&] { return backing_->read(offset, length, to); })) return error;
  // What was written while tracking is in no generation, also not in one that began since.
  const CaptureGroup::Standing after = group_->standing();
  if (before.streaming && after.streaming && before.generation == after.generation) *lsn = after.captured_lsn;
  return 0;
}

uint64_t CapturedDevice::fence() {
  extents_.drain();
  return group_->position().lsn;
}

void CapturedDevice::settle_in_flight() {
  if (in_flight_ == nullptr) return;
  const bool has_lost_writes = in_flight_->has(InFlightTable::kBackingLostWrites);
  if (has_lost_writes) {
    // The stream has what the disk may have lost, and all of that is marked.
    backing_->forget_cached();
    group_->close_stream("BACKING_FAILED");
  }
  if (log_ != nullptr && in_flight_->has(InFlightTable::kLogStale)) log_->begin_anew();
  const InFlightTable::Left left = in_flight_->left();
  bool is_settled = left.is_whole;
  for (const InFlightTable::Range& range : left.ranges) {
    // Memory of a process that has died: not to be trusted more than any other input.
    const bool is_range = range.begin < range.end && range.end <= sector_ceiling(size()) &&
                          range.begin % kSectorBytes == 0 && range.end % kSectorBytes == 0;
    if (!is_range || journal_backing(range.begin, range.end, 0, nullptr) != 0) is_settled = false;
  }
  if (!is_settled) group_->close_stream("BACKING_FAILED");
  if (has_lost_writes) in_flight_->forget(InFlightTable::kBackingLostWrites);
  in_flight_->clear();
}

Outcome CapturedDevice::prepare_growth(uint64_t bytes) {
  group_->close_stream("VOLUME_GROWN");
  return log_ != nullptr ? log_->grow(bytes) : Nothing{};
}

void CapturedDevice::grow(uint64_t bytes) {
  AFTERIMAGE_ASSERT(bytes >= size_ && bytes <= backing_->size(), "what the backing has");
  group_->close_stream("VOLUME_GROWN");
  size_ = bytes;
}

void CapturedDevice::clean_up() {
  if (cleaner_) cleaner_->clean_up();
}

CapturedDevice::Activity CapturedDevice::activity() const {
  return {under_way_.load(std::memory_order_relaxed), at_backing_.load(std::memory_order_relaxed),
          ended_.load(std::memory_order_relaxed)};
}

CapturedDevice::Counters CapturedDevice::counters() const {
  return {reads_.load(std::memory_order_relaxed),
          read_bytes_.load(std::memory_order_relaxed),
          writes_.load(std::memory_order_relaxed),
          write_bytes_.load(std::memory_order_relaxed),
          errors_.load(std::memory_order_relaxed),
          read_latency_.snapshot(),
          write_latency_.snapshot(),
          flush_latency_.snapshot()};
}

// --- what reaches the journal; the extent lock is held ---

void CapturedDevice::journal_content(uint64_t offset, uint64_t length, const std::byte* content) {
  if (offset % kSectorBytes != 0 || length % kSectorBytes != 0) {
    // The sectors' other bytes are the backing's.
    if (journal_backing(sector_floor(offset), sector_ceiling(offset + length), 0, nullptr) != 0)
      group_->close_stream("BACKING_FAILED");
    return;
  }
  in_pieces(offset, offset + length, kRecordBytesMax, [&](uint64_t begin, uint32_t bytes) {
    publish_piece(begin, bytes, content + (begin - offset), 0);
  });
}

void CapturedDevice::journal_zero(uint64_t offset, uint64_t length, uint8_t flags) {
  const uint64_t begin = sector_ceiling(offset);
  const uint64_t end = sector_floor(offset + length);
  // Sectors zeroed in part: their other bytes are the backing's.
  Errno error = 0;
  if (begin > end) {
    error = journal_backing(end, begin, 0, nullptr);  // the range lies inside one sector
  } else {
    if (offset < begin) error = journal_backing(sector_floor(offset), begin, 0, nullptr);
    if (error == 0 && end < offset + length)
      error = journal_backing(end, sector_ceiling(offset + length), 0, nullptr);
  }
  if (error != 0) group_->close_stream("BACKING_FAILED");
  in_pieces(begin, end, kZeroRecordBytesMax, [&](uint64_t at, uint32_t bytes) {
    group_->publish(
        {.kind = RecordKind::kZero, .flags = flags, .volume = volume_, .length = bytes, .offset = at},
        nullptr);
  });
}

/// Journals what the backing holds. *lsn (may be null) is that of the last record, 0 if one was not
/// published.
Errno CapturedDevice::journal_backing(uint64_t begin, uint64_t end, uint8_t flags, uint64_t* lsn) {
  std::byte* const content = bounce_buffer();
  if (content == nullptr) return ENOMEM;
  uint64_t published = 0;
  for (uint64_t at = begin; at < end;) {
    const auto bytes = static_cast<uint32_t>(std::min<uint64_t>(end - at, kRecordBytesMax));
    if (const Errno error = at_backing([&] { return backing_->read(at, bytes, content); })) return error;
    published = publish_piece(at, bytes, content, flags);
    if (published == 0) break;  // the stream is closed: nothing of the rest would be kept
    at += bytes;
  }
  if (lsn != nullptr) *lsn = published;
  return 0;
}

uint64_t CapturedDevice::publish_piece(uint64_t offset, uint32_t length, const std::byte* content,
                                       uint8_t flags) {
  FrameBuilder::Record record{
      .kind = RecordKind::kWrite, .flags = flags, .volume = volume_, .length = length, .offset = offset};
  if (is_zero(content, length)) record.kind = RecordKind::kZero;
#ifdef AFTERIMAGE_SABOTAGE_LSN_AFTER_ACK
  if (flags == 0 && length <= 16384) return publish_later(group_, record, content);
#endif
  return group_->publish(record, record.kind == RecordKind::kWrite ? content : nullptr).lsn;
}

Errno CapturedDevice::refusal(uint64_t offset, uint64_t length, Errno beyond) const {
  if (read_only()) return EPERM;
  return check_range(size(), offset, length, beyond);
}

/// Once told of a failed flush the log unmarks nothing, and a successor is told too.
void CapturedDevice::note_lost_writes() {
  if (log_ != nullptr && !log_->has_flush_failed()) log_->flush_ended(log_->flush_began(), false);
}

Errno CapturedDevice::counted(Errno error) {
  if (error != 0) errors_.fetch_add(1, std::memory_order_relaxed);
  return error;
}

}  // namespace afterimage
