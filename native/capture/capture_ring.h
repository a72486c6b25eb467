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
#include <thread>

#include "journal/frame.h"
#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint64_t kRingBytesMin = 8ull << 20;
constexpr uint32_t kRingLayoutVersion = 3;
constexpr uint64_t kNothingSpooled = UINT64_MAX;

/// What a record says of itself, without its payload.
struct RingHead {
  uint64_t lsn = 0;
  uint64_t time_ns = 0;
  uint64_t offset = 0;
  uint64_t generation = 0;
  uint32_t length = 0;
  uint32_t era = 0;
  uint16_t volume = 0;
  uint8_t kind = 0;  // RecordKind
  uint8_t flags = 0;
};

/// In the memfd, 64-byte aligned; the payload follows, padded to 64.
struct alignas(64) RingRecord : RingHead {
  enum State : uint32_t { kReserved = 1, kPublished = 2 };
  std::atomic<uint32_t> state;
  uint32_t total_bytes;  // this header, payload and padding
  std::byte* payload() { return reinterpret_cast<std::byte*>(this) + sizeof(RingRecord); }
  const std::byte* payload() const { return reinterpret_cast<const std::byte*>(this) + sizeof(RingRecord); }
};
static_assert(sizeof(RingRecord) == 64);

/// What a successor process must know of the stream beyond its records.
struct RingStream {
  Uuid group{};
  Uuid member{};
  uint64_t generation = 0;
  uint64_t first_lsn = 0;    // of the generation
  uint64_t lsn_ceiling = 0;  // LSNs above it were not persisted as used
  uint64_t released_lsn = 0;
  uint64_t time_ns = 0;       // not before any record that was released
  int64_t era_offset_ns = 0;  // CLOCK_REALTIME − CLOCK_BOOTTIME when the era began
  uint32_t era = 0;
  uint32_t end = 0;  // 0: streaming; else why the stream has ended, as CaptureGroup numbers the reasons
};

/// The first page of the memfd: what a successor process needs to find the records.
struct RingHeader {
  char magic[8];
  uint32_t layout_version;
  uint32_t header_bytes;  // records begin here
  uint64_t capacity;
  uint64_t id;  // random: whose records a spool file holds
  // [spooled, released) lies in spool files; kNothingSpooled: what is below `released` is confirmed.
  std::atomic<uint64_t> spooled;
  alignas(64) std::atomic<uint64_t> reserved;  // positions: byte counts that never wrap
  alignas(64) std::atomic<uint64_t> released;
  // The one that is not current is written, then made current: a process that is killed leaves a whole one.
  alignas(64) std::atomic<uint32_t> stream_current;
  RingStream streams[2];
};
constexpr char kRingMagic[8] = {'A', 'F', 'T', 'R', 'I', 'N', 'G', '\0'};

/// Whether `record` can be one of the `bytes` bytes that begin with it: nothing there is trusted.
bool is_whole_record(const RingRecord& record, uint64_t bytes);

class CaptureRing {
 public:
  /// `capacity` (at least kRingBytesMin) is rounded up to whole pages; populated and, where permitted, locked
  /// into memory: the write path must not fault. Errors: RING_UNAVAILABLE.
  static Result<std::unique_ptr<CaptureRing>> create(uint64_t capacity);
  /// The ring of a predecessor, all of whose threads must have ended. A record that it had reserved and not
  /// published becomes void: its write was not marked executed, and whoever repeats it publishes it again.
  /// Its memory is there already, and only the way to it is not: while production waits nothing is made to
  /// wait for that too. A thread of the ring's own makes it, and locks the memory, meanwhile. Errors:
  /// RING_LAYOUT (of another version, or damaged), RING_UNAVAILABLE.
  static Result<std::unique_ptr<CaptureRing>> adopt(Fd memfd);
  ~CaptureRing();
  CaptureRing(const CaptureRing&) = delete;
  CaptureRing& operator=(const CaptureRing&) = delete;

  uint64_t capacity() const { return capacity_; }
  uint64_t used() const;                      // reserved and not yet released, bytes
  int memfd() const { return memfd_.get(); }  // for the descriptor store; stays owned by the ring

  /// Space for a record with `payload_bytes` of payload, or null when the ring is full. The caller fills in
  /// the payload, then calls publish(). Whoever sees the space reserved sees `head`.
  RingRecord* reserve(uint32_t payload_bytes, const RingHead& head = {});
  static void publish(RingRecord* record);

  /// Reader: the record at `position`, or null if nothing is published there yet. Positions are byte counts
  /// that never wrap; the next one is position + record->total_bytes.
  const RingRecord* at(uint64_t position) const;
  uint64_t release_position() const { return header_->released.load(std::memory_order_acquire); }
  uint64_t reserve_position() const { return header_->reserved.load(std::memory_order_seq_cst); }
  /// Random, of this ring and no other.
  uint64_t id() const { return header_->id; }
  /// Where what lies in spool files begins, or kNothingSpooled. It ends at the release position. Set by
  /// whoever releases, before it does: a process that is killed in between has spooled nothing, or forgets
  /// nothing that was not confirmed.
  uint64_t spooled_position() const { return header_->spooled.load(std::memory_order_acquire); }
  void set_spooled_position(uint64_t position) {
    header_->spooled.store(position, std::memory_order_release);
  }
  /// Of an adopted ring, before anything is released: the last record that it had; null: it was empty.
  const RingRecord* inherited_last() const { return inherited_last_; }
  /// Gives the space below `position` back.
  void release(uint64_t position);

  /// What is kept for a successor. set_stream() by one thread at a time, likewise under the sequence mutex.
  const RingStream& stream() const {
    return header_->streams[header_->stream_current.load(std::memory_order_acquire)];
  }
  void set_stream(const RingStream& stream);

 private:
  CaptureRing() = default;
  Outcome map(uint64_t capacity, int flags);
  void pin();
  Outcome complete_records();
  RingRecord* record_at(uint64_t position) const;

  Fd memfd_;
  std::byte* mapping_ = nullptr;
  uint64_t mapping_bytes_ = 0;
  RingHeader* header_ = nullptr;
  std::byte* records_ = nullptr;
  uint64_t capacity_ = 0;
  const RingRecord* inherited_last_ = nullptr;
  std::thread pinning_;  // of an adopted ring
  std::atomic<bool> is_going_{false};
};

}  // namespace afterimage
