#include "capture/capture_ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <system_error>

#include "os/assert.h"
#include "os/io_thread.h"
#include "os/pinned_memory.h"

namespace afterimage {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPinnedAtOnce = 16u << 20;  // whoever destroys a ring waits for no more
constexpr uint64_t kRecordAlignment = alignof(RingRecord);
static_assert(sizeof(RingHeader) <= kPage);
static_assert(kPage % kRecordAlignment == 0 && sizeof(RingRecord) == kRecordAlignment,
              "a record's header never lies across the wrap");
static_assert(kRingBytesMin >= 2 * (sizeof(RingRecord) + kRecordBytesMax), "the longest record fits");
static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "atomics shared with a successor process");

constexpr uint64_t kMappedAtOnce = 16u << 20;
constexpr uint64_t kSmallRecordBytes = 64u << 10;  // what a page fault maps around the page
constexpr uint64_t kPrefetchedRecords = 16;        // as records often are of one size

/// The pages that [record, record + bytes) lies in, where the kernel can (Linux 5.14), in half the time that
/// their faults take.
void map_pages(RingRecord* record, uint64_t bytes) {
#ifdef MADV_POPULATE_READ
  const uint64_t into_page = reinterpret_cast<uintptr_t>(record) % kPage;
  (void)madvise(reinterpret_cast<std::byte*>(record) - into_page, into_page + bytes, MADV_POPULATE_READ);
#else
  static_cast<void>(record), static_cast<void>(bytes);
#endif
}

uint64_t rounded_up(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Nobody who has the memfd can take the mapping's pages away.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

Error other(const std::string& what) { return Error{"RING_LAYOUT", "an inherited capture ring: " + what}; }

Error unavailable(const std::string& what) {
  return system_error("RING_UNAVAILABLE", "capture ring: " + what, errno);
}

}  // namespace

bool is_whole_record(const RingRecord& record, uint64_t bytes) {
  if (bytes < sizeof(RingRecord)) return false;
  const uint64_t payload_bytes = record.kind == static_cast<uint8_t>(RecordKind::kWrite) ? record.length : 0;
  return record.total_bytes % kRecordAlignment == 0 && payload_bytes <= kRecordBytesMax &&
         record.total_bytes >= sizeof(RingRecord) + payload_bytes && record.total_bytes <= bytes &&
         record.volume <= kVolumeNumberMax;
}

Result<std::unique_ptr<CaptureRing>> CaptureRing::create(uint64_t capacity) {
  if (capacity < kRingBytesMin) {
    return Error{"RING_UNAVAILABLE", "capture ring: " + std::to_string(capacity) + " bytes are fewer than " +
                                         std::to_string(kRingBytesMin)};
  }
  std::unique_ptr<CaptureRing> ring(new CaptureRing);
  ring->capacity_ = capacity = rounded_up(capacity, kPage);
  ring->memfd_ = Fd(memfd_create("afterimage-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!ring->memfd_) return unavailable("memfd_create");
  const int fd = ring->memfd_.get();
  // Allocated now: a sparse memfd would end the process by SIGBUS on a full machine, in the middle of a
  // write.
  if (const int error = posix_fallocate(fd, 0, static_cast<off_t>(kPage + capacity)); error != 0) {
    errno = error;
    return unavailable("allocating " + std::to_string(capacity) + " bytes");
  }
  if (fcntl(fd, F_ADD_SEALS, kSeals) != 0) return unavailable("sealing");
  if (const Outcome mapped = ring->map(capacity, MAP_POPULATE); !mapped.ok()) return mapped.error();
  // Best effort: without the privilege the pages are at least populated.
  (void)mlock(ring->mapping_, ring->mapping_bytes_);

  ring->header_ = new (ring->mapping_) RingHeader{};
  std::memcpy(ring->header_->magic, kRingMagic, sizeof kRingMagic);
  ring->header_->layout_version = kRingLayoutVersion;
  ring->header_->header_bytes = kPage;
  ring->header_->capacity = capacity;
  ring->header_->spooled = kNothingSpooled;
  if (getrandom(&ring->header_->id, sizeof ring->header_->id, 0) != ssize_t{sizeof ring->header_->id})
    return unavailable("getrandom");
  return ring;
}

Result<std::unique_ptr<CaptureRing>> CaptureRing::adopt(Fd memfd) {
  struct stat status {};
  alignas(RingHeader) std::array<std::byte, sizeof(RingHeader)> bytes;
  // Without the seals whoever else has it could cut it shorter under the mapping.
  if (fstat(memfd.get(), &status) != 0 || (fcntl(memfd.get(), F_GET_SEALS) & kSeals) != kSeals ||
      pread(memfd.get(), bytes.data(), bytes.size(), 0) != ssize_t{bytes.size()})
    return other("no memfd of a ring");
  const auto& header = *reinterpret_cast<const RingHeader*>(bytes.data());
  if (std::memcmp(header.magic, kRingMagic, sizeof kRingMagic) != 0) return other("no ring");
  if (header.layout_version != kRingLayoutVersion)
    return other("layout version " + std::to_string(header.layout_version));
  const uint64_t capacity = header.capacity;
  if (header.header_bytes != kPage || capacity < kRingBytesMin || capacity % kPage != 0 ||
      static_cast<uint64_t>(status.st_size) != kPage + capacity)
    return other(std::to_string(status.st_size) + " bytes for a capacity of " + std::to_string(capacity));
  std::unique_ptr<CaptureRing> ring(new CaptureRing);
  ring->capacity_ = capacity;
  ring->memfd_ = std::move(memfd);
  if (const Outcome mapped = ring->map(capacity, 0); !mapped.ok()) return mapped.error();
  ring->header_ = std::launder(reinterpret_cast<RingHeader*>(ring->mapping_));
  if (const Outcome whole = ring->complete_records(); !whole.ok()) return whole.error();
  try {
    ring->pinning_ = std::thread([self = ring.get()] {
      enter_thread("ring-pinning");
      self->pin();
    });
  } catch (const std::system_error&) {
    ring->pin();  // no thread to be had
  }
  return ring;
}

Outcome CaptureRing::map(uint64_t capacity, int flags) {
  const uint64_t bytes = kPage + 2 * capacity;
  void* const space = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return unavailable("address space");
  mapping_ = static_cast<std::byte*>(space);
  mapping_bytes_ = bytes;
  records_ = mapping_ + kPage;
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  flags |= MAP_SHARED | MAP_FIXED;
  const int fd = memfd_.get();
  if (mmap(space, kPage + capacity, kProtection, flags, fd, 0) == MAP_FAILED) return unavailable("mapping");
  if (mmap(records_ + capacity, capacity, kProtection, flags, fd, kPage) == MAP_FAILED)
    return unavailable("second mapping");
  return Nothing{};
}

void CaptureRing::pin() {
  for (uint64_t at = 0; at < mapping_bytes_ && !is_going_; at += kPinnedAtOnce)
    (void)pin_memory(mapping_ + at, std::min(kPinnedAtOnce, mapping_bytes_ - at));
}

/// Walks over what is reserved. Nothing there is trusted: it may be the memory of another version's defect.
Outcome CaptureRing::complete_records() {
  const uint64_t reserved = reserve_position();
  uint64_t position = release_position();
  if (position > reserved || reserved - position > capacity_ || position % kRecordAlignment != 0)
    return other("its positions contradict each other");
  const uint64_t spooled = spooled_position();
  if (spooled != kNothingSpooled && (spooled > position || spooled % kRecordAlignment != 0))
    return other("its spool begins at " + std::to_string(spooled));
  if (header_->stream_current.load(std::memory_order_relaxed) > 1) return other("it has no stream");
  const RingRecord*& before = inherited_last_;
  uint64_t mapped = position;
  while (position < reserved) {
    RingRecord* const record = record_at(position);
    const uint32_t state = record->state.load(std::memory_order_relaxed);
    const bool is_whole = is_whole_record(*record, reserved - position) &&
                          (state == RingRecord::kReserved || state == RingRecord::kPublished);
    if (!is_whole) return other("the record at " + std::to_string(position) + " is none");
    if (before != nullptr && (record->generation != before->generation || record->lsn != before->lsn + 1))
      return other("LSN " + std::to_string(record->lsn) + " follows " + std::to_string(before->lsn));
    // Production waits for this walk. From one large record to the next it touches few pages.
    if (position >= mapped && record->total_bytes <= kSmallRecordBytes) {
      mapped = position + std::min(kMappedAtOnce, reserved - position);
      map_pages(record, mapped - position);
    }
    __builtin_prefetch(record_at(position + kPrefetchedRecords * record->total_bytes));
    if (state == RingRecord::kReserved) {
      record->kind = static_cast<uint8_t>(RecordKind::kVoid);
      record->offset = record->length = 0;
      record->volume = record->flags = 0;
      publish(record);
    }
    before = record;
    position += record->total_bytes;
  }
  return Nothing{};
}

CaptureRing::~CaptureRing() {
  is_going_ = true;
  if (pinning_.joinable()) pinning_.join();
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

RingRecord* CaptureRing::reserve(uint32_t payload_bytes, const RingHead& head) {
  AFTERIMAGE_ASSERT(payload_bytes <= kRecordBytesMax, "a record is never longer than the second mapping");
  const uint64_t total = sizeof(RingRecord) + rounded_up(payload_bytes, kRecordAlignment);
  const uint64_t position = header_->reserved.load(std::memory_order_relaxed);
  if (position + total - release_position() > capacity_) return nullptr;
  RingRecord* const record = record_at(position);
  // Before the reader may look here: the space may still hold the mark of a record that was released.
  record->state.store(RingRecord::kReserved, std::memory_order_relaxed);
  record->total_bytes = static_cast<uint32_t>(total);
  static_cast<RingHead&>(*record) = head;
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

void CaptureRing::set_stream(const RingStream& stream) {
  const uint32_t next = 1 - header_->stream_current.load(std::memory_order_relaxed);
  header_->streams[next] = stream;
  header_->stream_current.store(next, std::memory_order_release);
}

}  // namespace afterimage
