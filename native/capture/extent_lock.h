// ExtentLock: excludes overlapping writers of one volume, in order of arrival (R2: held from before the
// backing write until the record is published and the slot marked).
//
// Threads: any. A waiter never overtakes an earlier waiter that it overlaps, so a large range cannot starve.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace afterimage {

class ExtentLock {
 public:
  class Guard {
   public:
    Guard(ExtentLock& lock, uint64_t begin, uint64_t end);  // blocks; [begin, end) in bytes
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    struct Impl;
    ExtentLock& lock_;
    // (the implementation's list iterator)
  };
  /// Returns once every range that was held or awaited when the call began has been released. Ranges that
  /// arrive later neither delay it nor are delayed by it.
  void drain();
};

}  // namespace afterimage
