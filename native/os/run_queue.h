// How long a thread that could run waits for a processor: whether others need them too.
//
// Threads: one, the one that made it. Ownership: owns its descriptor.
#pragma once

#include <cstdint>

#include "os/fd.h"

namespace afterimage {

class RunQueue {
 public:
  RunQueue();
  /// The share, 0 to 1, of the last tenths of a second that the calling thread has waited in the run queue
  /// (/proc/thread-self/schedstat); 0 where the kernel does not tell. Looked at anew every 20 ms at most.
  double waited();

 private:
  void look(uint64_t now_ns);

  Fd schedstat_;
  uint64_t seen_ns_ = 0;  // when it was looked at
  uint64_t wait_ns_ = 0;  // all that the thread had waited then
  double waited_ = 0;
};

}  // namespace afterimage
