#include "capture/dirty_log_cleaner.h"

#include <utility>

#include "os/io_thread.h"

namespace afterimage {

DirtyLogCleaner::DirtyLogCleaner(DirtyLog* log, BlockDevice* backing, StandingSource standing,
                                 const Pace& pace)
    : log_(*log), backing_(*backing), standing_(std::move(standing)), pace_(pace), thread_([this] {
        run();
      }) {}

DirtyLogCleaner::~DirtyLogCleaner() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  stopping_changed_.notify_all();
  thread_.join();
}

void DirtyLogCleaner::run() {
  enter_thread("ai-dirty-log");
  std::unique_lock lock(mutex_);
  while (!stopping_changed_.wait_for(lock, pace_.poll, [this] { return is_stopping_; })) {
    lock.unlock();
    step();
    lock.lock();
  }
}

void DirtyLogCleaner::step() {
  const std::lock_guard one(round_mutex_);
  log_.refute();
  if (!is_under_way_) is_under_way_ = begin(&round_, pace_.idle_cuts);
  if (!is_under_way_) return;
  if (!holds(round_)) {
    is_under_way_ = false;
    return;
  }
#ifndef AFTERIMAGE_SABOTAGE_UNMARK_WITHOUT_FLUSH  // breaks R8: what the backing may still lose is forgotten
  if (!log_.has_flushed(round_.flush_ticket)) {
    if (std::chrono::steady_clock::now() - round_.begun >= pace_.flush_patience) flush();
    if (!log_.has_flushed(round_.flush_ticket)) return;
  }
#endif
  // Confirmed first, the stream's state after it: what is given up when a stream has ended is released too.
  const uint64_t confirmed_lsn = standing_().confirmed_lsn;
#ifndef AFTERIMAGE_SABOTAGE_UNMARK_UNCONFIRMED  // breaks R8: what the receiver may never get is forgotten
  if (confirmed_lsn < round_.lsn) return;
#else
  if (confirmed_lsn == UINT64_MAX) return;
#endif
  if (holds(round_)) log_.unmark(round_.generation, round_.lsn, pace_.idle_cuts);
  is_under_way_ = false;
}

uint64_t DirtyLogCleaner::clean_up() {
  const std::lock_guard one(round_mutex_);
  log_.refute();
  is_under_way_ = false;
  Round round;
  if (!begin(&round, 0)) return log_.marked();
  flush();
  const uint64_t confirmed_lsn = standing_().confirmed_lsn;
  if (log_.has_flushed(round.flush_ticket) && confirmed_lsn >= round.lsn && holds(round))
    log_.unmark(round.generation, round.lsn);
  return log_.marked();
}

/// False when there is nothing to do, or nothing may be unmarked now.
bool DirtyLogCleaner::begin(Round* round, uint32_t idle_cuts) {
  if (log_.marked() == 0 || log_.has_flush_failed()) return false;
  const CaptureGroup::Standing before = standing_();
  if (!before.streaming || before.generation != log_.synced_generation()) return false;
  if (log_.cut(idle_cuts) == 0) return false;
  // After the cut: every write to what it chose has its LSN, or was made while this generation did not stream
  // yet, and was compared.
  const CaptureGroup::Standing after = standing_();
  *round = {.generation = before.generation,
            .lsn = after.captured_lsn,
            .flush_ticket = log_.next_flush(),
            .begun = std::chrono::steady_clock::now()};
  return holds(*round);
}

bool DirtyLogCleaner::holds(const Round& round) const {
  const CaptureGroup::Standing now = standing_();
  return now.streaming && now.generation == round.generation &&
         log_.synced_generation() == round.generation && !log_.has_flush_failed();
}

void DirtyLogCleaner::flush() {
  const uint64_t ticket = log_.flush_began();
  log_.flush_ended(ticket, backing_.flush() == 0);
}

}  // namespace afterimage
