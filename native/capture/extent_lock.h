// ExtentLock: excludes overlapping writers of one volume, in order of arrival (R2: held from before the
// backing write until the record is published and the slot marked).
//
// Threads: any. A waiter never overtakes an earlier waiter that it overlaps, so a large range cannot starve.
// Ownership: nothing is allocated; an entry lies in its Guard, which must go before the lock does.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace afterimage {

class ExtentLock {
  /// A range held or awaited. All entries form one list in order of arrival; one proceeds as soon as no
  /// earlier entry overlaps it.
  struct Entry {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t arrival = 0;
    uint32_t blockers = 0;  // earlier entries that overlap this one
    std::condition_variable unblocked;
    Entry* previous = nullptr;
    Entry* next = nullptr;
    bool overlaps(const Entry& other) const;
  };

 public:
  ExtentLock() = default;
  ~ExtentLock();
  ExtentLock(const ExtentLock&) = delete;
  ExtentLock& operator=(const ExtentLock&) = delete;

  class Guard {
   public:
    Guard(ExtentLock& lock, uint64_t begin, uint64_t end);  // blocks; [begin, end) in bytes
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    ExtentLock& lock_;
    Entry entry_;
  };
  /// Returns once every range that was held or awaited when the call began has been released. Ranges that
  /// arrive later neither delay it nor are delayed by it.
  void drain();

 private:
  void append(Entry* entry);
  void remove(Entry* entry);

  std::mutex mutex_;
  Entry* first_ = nullptr;
  Entry* last_ = nullptr;
  uint64_t arrivals_ = 0;
  uint32_t drainers_ = 0;
  std::condition_variable drained_;
};

}  // namespace afterimage
