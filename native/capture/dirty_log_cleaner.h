// DirtyLogCleaner: unmarks a volume's extents in the background, in rounds:
//   cut: choose the marked extents that nobody has written to for a while, and take the last LSN given,
//   which is not before any
//        write to them
//   → a flush of the backing that begins after the cut: production's, or after some seconds one of its own,
//   since
//     production may never flush
//   → the receiver is durable up to that LSN, in the same generation, and holds the volume in it
//   → unmark those that nobody has written to since the cut.
// And the file of a log that is void is made so, where that could not be done at once (DirtyLog::refute).
// A round that the stream's end overtakes is given up: what was written then is in no record.
//
// Threads: the constructor starts one, at no I/O priority and waiting for the disk and the receiver only; the
// destructor and clean_up() wait for it or beside it. `standing` is called from that thread and from
// clean_up(). Ownership: borrows log and backing.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "capture/capture_group.h"
#include "capture/dirty_log.h"
#include "device/block_device.h"

namespace afterimage {

class DirtyLogCleaner {
 public:
  struct Pace {
    std::chrono::milliseconds poll{2000};
    /// How long production has to flush by itself.
    std::chrono::milliseconds flush_patience{10'000};
    /// Polls that must find an extent untouched, up to DirtyLog::kIdleCutsMax: the next write to one that was
    /// unmarked waits for the disk, so that what is written to now and then stays marked.
    uint32_t idle_cuts = 30;
    /// That which unmarks what nobody has written to for `idle`.
    static Pace of(std::chrono::milliseconds idle) {
      Pace pace;
      pace.poll = std::max(idle / pace.idle_cuts, std::chrono::milliseconds(1));
      pace.flush_patience = std::min(idle, pace.flush_patience);
      return pace;
    }
  };
  using StandingSource = std::function<CaptureGroup::Standing()>;

  DirtyLogCleaner(DirtyLog* log, BlockDevice* backing, StandingSource standing, const Pace& pace);
  ~DirtyLogCleaner();

  /// A round at once, as far as it gets without waiting for the receiver: for a clean stop, when production
  /// has ended and everything is durable. Returns how many extents are still marked.
  uint64_t clean_up();
  /// What its thread does every `poll`. Any thread.
  void step();

 private:
  /// What a cut rests on.
  struct Round {
    uint64_t generation = 0;
    uint64_t lsn = 0;
    uint64_t flush_ticket = 0;
    std::chrono::steady_clock::time_point begun;
  };
  void run();
  bool begin(Round* round, uint32_t idle_cuts);
  bool holds(const Round& round) const;
  void flush();

  DirtyLog& log_;
  BlockDevice& backing_;
  const StandingSource standing_;
  const Pace pace_;

  std::mutex round_mutex_;  // one round at a time
  bool is_under_way_ = false;
  Round round_;

  std::mutex mutex_;
  std::condition_variable stopping_changed_;
  bool is_stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace afterimage
