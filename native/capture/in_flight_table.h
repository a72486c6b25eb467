// InFlightTable: the ranges of one volume that are being written at this moment, in a memfd so that a
// successor process knows them: what of them is on the backing, and whether the ring has it, nobody can tell
// otherwise. It reads them again and journals what it finds.
//
// Threads: Entry by any number of threads at once; left() and clear() before any of them.
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
constexpr uint32_t kInFlightLayoutVersion = 1;

class InFlightTable {
 public:
  /// Errors: RING_UNAVAILABLE.
  static Result<std::unique_ptr<InFlightTable>> create();
  /// That of a predecessor, all of whose threads must have ended. Errors: RING_LAYOUT, RING_UNAVAILABLE.
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
