#include "capture/extent_lock.h"

#include "os/assert.h"

namespace afterimage {

bool ExtentLock::Entry::overlaps(const Entry& other) const {
#ifdef AFTERIMAGE_SABOTAGE_NO_EXTENT_LOCK
  return false;  // breaks R2: overlapping writers reach backing and ring in different orders
#endif
  return begin < other.end && other.begin < end;
}

ExtentLock::~ExtentLock() {
  AFTERIMAGE_ASSERT(first_ == nullptr, "the entries of guards that are still there");
}

ExtentLock::Guard::Guard(ExtentLock& lock, uint64_t begin, uint64_t end) : lock_(lock) {
  entry_.begin = begin;
  entry_.end = end;
  std::unique_lock held(lock_.mutex_);
  for (const Entry* earlier = lock_.first_; earlier != nullptr; earlier = earlier->next)
    if (earlier->overlaps(entry_)) ++entry_.blockers;
  lock_.append(&entry_);
  entry_.unblocked.wait(held, [this] { return entry_.blockers == 0; });
}

ExtentLock::Guard::~Guard() {
  const std::lock_guard held(lock_.mutex_);
  // Notified with the mutex held: a woken entry lies on its thread's stack and may be gone once it is free to
  // run.
  for (Entry* later = entry_.next; later != nullptr; later = later->next)
    if (entry_.overlaps(*later) && --later->blockers == 0) later->unblocked.notify_one();
  lock_.remove(&entry_);
}

void ExtentLock::drain() {
  std::unique_lock held(mutex_);
  const uint64_t arrivals = arrivals_;
  ++drainers_;
  drained_.wait(held, [&] { return first_ == nullptr || first_->arrival >= arrivals; });
  --drainers_;
}

void ExtentLock::append(Entry* entry) {
  entry->arrival = arrivals_++;
  entry->previous = last_;
  (last_ != nullptr ? last_->next : first_) = entry;
  last_ = entry;
}

void ExtentLock::remove(Entry* entry) {
  if (entry == first_ && drainers_ > 0) drained_.notify_all();
  (entry->previous != nullptr ? entry->previous->next : first_) = entry->next;
  (entry->next != nullptr ? entry->next->previous : last_) = entry->previous;
}

}  // namespace afterimage
