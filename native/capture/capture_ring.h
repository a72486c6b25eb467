// CaptureRing: the bounded byte ring of captured records, in a memfd so that it can outlive the process.
// Mapped twice in a row, so that a record is always contiguous. Layout: a page of RingHeader, then `capacity`
// bytes of records.
//
//   release position ≤ read positions ≤ published ≤ reserved ≤ release position + capacity
//
// Records stay in the ring until the receiver has them on stable storage; framing only reads them. That makes
// the ring the retransmission buffer too: after a reconnect the shipper simply frames again from the durable
// LSN.
//
// Threads: reserve() by one thread at a time (CaptureGroup holds its sequence mutex); publish() by the thread
// that reserved, without a lock; used() and the reader functions by any thread, as long as release() does not
// pass the record that they look at; release() by one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "journal/frame.h"
#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint64_t kRingBytesMin = 8ull << 20;
constexpr uint32_t kRingLayoutVersion = 1;

/// In the memfd, 64-byte aligned; the payload follows, padded to 64.
struct alignas(64) RingRecord {
  enum State : uint32_t { kReserved = 1, kPublished = 2 };
  std::atomic<uint32_t> state;
  uint32_t total_bytes;  // this header, payload and padding
  uint64_t lsn;
  uint64_t time_ns;
  uint64_t offset;
  uint32_t length;
  uint32_t era;
  uint64_t generation;
  uint16_t volume;
  uint8_t kind;
  uint8_t flags;
  uint8_t reserved[12];
  std::byte* payload() { return reinterpret_cast<std::byte*>(this) + sizeof(RingRecord); }
  const std::byte* payload() const { return reinterpret_cast<const std::byte*>(this) + sizeof(RingRecord); }
};
static_assert(sizeof(RingRecord) == 64);

/// The first page of the memfd: what a successor process needs to find the records.
struct RingHeader {
  char magic[8];
  uint32_t layout_version;
  uint32_t header_bytes;  // records begin here
  uint64_t capacity;
  alignas(64) std::atomic<uint64_t> reserved;  // positions: byte counts that never wrap
  alignas(64) std::atomic<uint64_t> released;
};
constexpr char kRingMagic[8] = {'A', 'F', 'T', 'R', 'I', 'N', 'G', '\0'};

class CaptureRing {
 public:
  /// `capacity` (at least kRingBytesMin) is rounded up to whole pages; populated and, where permitted, locked
  /// into memory: the write path must not fault. Errors: RING_UNAVAILABLE.
  static Result<std::unique_ptr<CaptureRing>> create(uint64_t capacity);
  ~CaptureRing();
  CaptureRing(const CaptureRing&) = delete;
  CaptureRing& operator=(const CaptureRing&) = delete;

  uint64_t capacity() const { return capacity_; }
  uint64_t used() const;                      // reserved and not yet released, bytes
  int memfd() const { return memfd_.get(); }  // for the descriptor store; stays owned by the ring

  /// Space for a record with `payload_bytes` of payload, or null when the ring is full. The caller fills
  /// header and payload, then calls publish().
  RingRecord* reserve(uint32_t payload_bytes);
  static void publish(RingRecord* record);

  /// Reader: the record at `position`, or null if nothing is published there yet. Positions are byte counts
  /// that never wrap; the next one is position + record->total_bytes.
  const RingRecord* at(uint64_t position) const;
  uint64_t release_position() const { return header_->released.load(std::memory_order_acquire); }
  uint64_t reserve_position() const { return header_->reserved.load(std::memory_order_seq_cst); }
  /// Gives the space below `position` back.
  void release(uint64_t position);

 private:
  CaptureRing() = default;
  RingRecord* record_at(uint64_t position) const;

  Fd memfd_;
  std::byte* mapping_ = nullptr;
  uint64_t mapping_bytes_ = 0;
  RingHeader* header_ = nullptr;
  std::byte* records_ = nullptr;
  uint64_t capacity_ = 0;
};

}  // namespace afterimage
