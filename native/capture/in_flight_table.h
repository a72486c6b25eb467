// InFlightTable: the ranges of one volume that are being written at this moment, in a memfd so that a
// successor process knows them: what of them is on the backing, and whether the ring has it, nobody can tell
// otherwise. It reads them again and journals what it finds. Beside them lies what of the volume's disks it
// must not believe, whatever they say by then: it finds that when it looks after the ranges.
//
// Threads: Entry, note() and has() by any number of threads at once; left() and clear() before any Entry.
// Ownership: owns the memfd and its mapping; an Entry must go before the table does.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

/// Far more than a volume has threads that write to it.
constexpr uint32_t kInFlightMax = 1023;
/// 2: doubts; in a table of version 1 there are none. Older programs refuse it, and end the stream.
constexpr uint32_t kInFlightLayoutVersion = 2;
constexpr uint32_t kInFlightLayoutVersionMin = 1;

class InFlightTable {
 public:
  /// Errors: RING_UNAVAILABLE.
  static Result<std::unique_ptr<InFlightTable>> create();
  /// That of a predecessor, all of whose threads must have ended; it is of this version from then on. Errors:
  /// RING_LAYOUT, RING_UNAVAILABLE.
  static Result<std::unique_ptr<InFlightTable>> adopt(Fd memfd);
  ~InFlightTable();
  InFlightTable(const InFlightTable&) = delete;
  InFlightTable& operator=(const InFlightTable&) = delete;

  int memfd() const { return memfd_.get(); }

  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  /// What the predecessor was writing, unless it was more than the table holds: then nothing is known.
  struct Left {
    std::vector<Range> ranges;
    bool is_whole = true;
  };
  Left left() const;
  void clear();

  enum Doubt : uint32_t {
    /// A flush of the backing failed, and the kernel says so only once: what was written since the last good
    /// one may be in its cache and nowhere else.
    kBackingLostWrites = 1,
    /// The dirty log is void, or about to be, and its file, which lacks marks, is there still.
    kLogStale = 2,
  };
  void note(Doubt doubt) { header_->doubts.fetch_or(doubt, std::memory_order_release); }
  void forget(Doubt doubt) {
    header_->doubts.fetch_and(~static_cast<uint32_t>(doubt), std::memory_order_release);
  }
  bool has(Doubt doubt) const { return (header_->doubts.load(std::memory_order_acquire) & doubt) != 0; }

 private:
  struct alignas(64) Slot {
    enum State : uint32_t { kFree = 0, kClaimed = 1, kWriting = 2 };
    std::atomic<uint32_t> state;
    uint64_t begin;
    uint64_t end;
  };
  struct alignas(64) Header {
    uint64_t magic;
    uint32_t version;
    uint32_t count;
    std::atomic<uint32_t> unlisted;  // writers that found no free slot
    std::atomic<uint32_t> doubts;    // bits of Doubt
  };
  static_assert(sizeof(Slot) == 64 && sizeof(Header) == 64);
  static_assert(std::atomic<uint32_t>::is_always_lock_free, "shared with a successor process");

 public:
  /// From before the backing is written until the record is published.
  class Entry {
   public:
    Entry(InFlightTable* table, uint64_t begin, uint64_t end);  // a null table: nothing is noted
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    InFlightTable* const table_;
    Slot* slot_ = nullptr;  // null: unlisted
  };

 private:
  InFlightTable(Fd memfd, void* mapping);
  static Result<void*> map(const Fd& memfd);
  static constexpr size_t kBytes = sizeof(Header) + kInFlightMax * sizeof(Slot);

  Fd memfd_;
  Header* const header_;
  Slot* const slots_;
};

}  // namespace afterimage
