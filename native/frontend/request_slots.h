// RequestSlots: the memory that front-end threads read their next request into. It lies in a memfd, so that a
// successor process can finish what a killed one had read: a slot is occupied when its kernel-written header
// is non-zero, and is freed before each read; `executed` says that the request is done and need only be
// answered. FUSE needs this: its kernel side sends nothing twice by itself. NBD clients re-send what was not
// answered on a new connection.
//
// Layout of the memfd, little-endian, in pages of kSlotPageBytes: SlotsHeader; then `count` slots of
// `slot_bytes` each. A slot is a page that begins with SlotMarks and ends with the first `payload_offset`
// bytes of the buffer, and the pages of the buffer's rest.
//
// Threads: each slot belongs to one front-end thread. Ownership: owns memfd and mapping, populated and (where
// permitted) locked: the kernel fails a FUSE request with EIO if it cannot copy it into the reader's buffer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kSlotLayoutVersion = 1;
constexpr uint64_t kSlotsMagic = 0x31'54'4f'4c'53'49'46'41;  // "AFISLOT1"
constexpr uint32_t kSlotPageBytes = 4096;
constexpr uint32_t kSlotsMax = 64;
constexpr uint32_t kSlotBufferBytesMax = 4u << 20;

struct SlotsHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t count;
  uint32_t slot_bytes;  // from one slot to the next
  uint32_t buffer_bytes;
  uint32_t payload_offset;
  uint32_t reserved;
};
static_assert(sizeof(SlotsHeader) == 32);

struct alignas(64) SlotMarks {
  std::atomic<uint32_t> executed;
  std::atomic<int32_t> answer;  // errno value to answer with once executed
};
static_assert(sizeof(SlotMarks) == 64 && std::atomic<uint32_t>::is_always_lock_free);

class RequestSlots {
 public:
  /// `count` slots (1…kSlotsMax), each with a buffer of `buffer_bytes` whose byte `payload_offset` is
  /// page-aligned (a multiple of 8 that leaves room for the marks in the page before it). Errors:
  /// SLOTS_UNAVAILABLE.
  static Result<std::unique_ptr<RequestSlots>> create(uint32_t count, uint32_t buffer_bytes,
                                                      uint32_t payload_offset);
  /// Those of a predecessor, which runs no more: their number is its own, their shape has to be this one.
  /// Errors: SLOTS_LAYOUT (another shape or version, or no slots at all), SLOTS_UNAVAILABLE.
  static Result<std::unique_ptr<RequestSlots>> adopt(Fd memfd, uint32_t buffer_bytes,
                                                     uint32_t payload_offset);
  ~RequestSlots();
  struct Slot {
    std::atomic<uint32_t>* executed;
    std::byte* buffer;
    uint32_t buffer_bytes;
    std::atomic<int32_t>* answer;

    /// It holds a request that was read and not yet followed by another one.
    bool is_occupied() const;
    /// The request is done, with this result: a successor must answer it so and not run it again.
    void mark_executed(Errno result) const;
    /// Empties the slot. The header goes before the marks: a slot that looks occupied always has its own
    /// marks.
    void free() const;
  };
  Slot slot(uint32_t index) const;
  uint32_t count() const { return header_->count; }
  int memfd() const { return memfd_.get(); }

 private:
  RequestSlots(Fd memfd, std::byte* mapping, size_t bytes);
  static Result<std::byte*> map(const Fd& memfd, size_t bytes);
  Fd memfd_;
  SlotsHeader* header_;
  size_t bytes_;
};

}  // namespace afterimage
