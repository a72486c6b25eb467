#include "capture/capture_ring.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "os/assert.h"

namespace afterimage {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kRecordAlignment = alignof(RingRecord);
static_assert(sizeof(RingHeader) <= kPage);
static_assert(kPage % kRecordAlignment == 0 && sizeof(RingRecord) == kRecordAlignment,
              "a record's header never lies across the wrap");
static_assert(kRingBytesMin >= 2 * (sizeof(RingRecord) + kRecordBytesMax), "the longest record fits");
static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "atomics shared with a successor process");

uint64_t rounded_up(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

Error unavailable(const std::string& what) {
  return system_error("RING_UNAVAILABLE", "capture ring: " + what, errno);
}

}  // namespace

Result<std::unique_ptr<CaptureRing>> CaptureRing::create(uint64_t capacity) {
  if (capacity < kRingBytesMin) {
    return Error{"RING_UNAVAILABLE", "capture ring: " + std::to_string(capacity) + " bytes are fewer than " +
                                         std::to_string(kRingBytesMin)};
  }
  std::unique_ptr<CaptureRing> ring(new CaptureRing);
  ring->capacity_ = capacity = rounded_up(capacity, kPage);
  ring->memfd_ = Fd(memfd_create("afterimage-ring", MFD_CLOEXEC));
  if (!ring->memfd_) return unavailable("memfd_create");
  const int fd = ring->memfd_.get();
  // Allocated now: a sparse memfd would end the process by SIGBUS on a full machine, in the middle of a
  // write.
  if (const int error = posix_fallocate(fd, 0, static_cast<off_t>(kPage + capacity)); error != 0) {
    errno = error;
    return unavailable("allocating " + std::to_string(capacity) + " bytes");
  }

  const uint64_t bytes = kPage + 2 * capacity;
  void* const space = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return unavailable("address space");
  ring->mapping_ = static_cast<std::byte*>(space);
  ring->mapping_bytes_ = bytes;
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  constexpr int kFlags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
  if (mmap(space, kPage + capacity, kProtection, kFlags, fd, 0) == MAP_FAILED) return unavailable("mapping");
  std::byte* const again = ring->mapping_ + kPage + capacity;
  if (mmap(again, capacity, kProtection, kFlags, fd, kPage) == MAP_FAILED)
    return unavailable("second mapping");
  // Best effort: without the privilege the pages are at least populated.
  (void)mlock(space, bytes);

  ring->header_ = new (space) RingHeader{};
  std::memcpy(ring->header_->magic, kRingMagic, sizeof kRingMagic);
  ring->header_->layout_version = kRingLayoutVersion;
  ring->header_->header_bytes = kPage;
  ring->header_->capacity = capacity;
  ring->records_ = ring->mapping_ + kPage;
  return ring;
}

CaptureRing::~CaptureRing() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

uint64_t CaptureRing::used() const {
  // Released first: it only follows, so the difference is never negative.
  const uint64_t released = release_position();
  return reserve_position() - released;
}

RingRecord* CaptureRing::record_at(uint64_t position) const {
  return reinterpret_cast<RingRecord*>(records_ + position % capacity_);
}

RingRecord* CaptureRing::reserve(uint32_t payload_bytes) {
  AFTERIMAGE_ASSERT(payload_bytes <= kRecordBytesMax, "a record is never longer than the second mapping");
  const uint64_t total = sizeof(RingRecord) + rounded_up(payload_bytes, kRecordAlignment);
  const uint64_t position = header_->reserved.load(std::memory_order_relaxed);
  if (position + total - release_position() > capacity_) return nullptr;
  RingRecord* const record = record_at(position);
  // Before the reader may look here: the space may still hold the mark of a record that was released.
  record->state.store(RingRecord::kReserved, std::memory_order_relaxed);
  record->total_bytes = static_cast<uint32_t>(total);
  header_->reserved.store(position + total, std::memory_order_seq_cst);
  return record;
}

// Sequentially consistent here and in at(): a reader that announces its sleep and then finds nothing, and a
// writer that publishes and then finds nobody asleep, cannot both be right.
void CaptureRing::publish(RingRecord* record) {
  record->state.store(RingRecord::kPublished, std::memory_order_seq_cst);
}

const RingRecord* CaptureRing::at(uint64_t position) const {
  if (position >= reserve_position()) return nullptr;
  const RingRecord* const record = record_at(position);
  return record->state.load(std::memory_order_seq_cst) == RingRecord::kPublished ? record : nullptr;
}

void CaptureRing::release(uint64_t position) {
  AFTERIMAGE_ASSERT(position >= release_position() && position <= reserve_position(),
                    "release position ≤ read positions ≤ published ≤ reserved");
  header_->released.store(position, std::memory_order_release);
}

}  // namespace afterimage
