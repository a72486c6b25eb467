// RestartPause: when the successor of a program that died may start. Counted from start to start, so that
// whoever lived for long, or was ready, is followed at once: production waits for the successor. Who dies
// young again and again is followed ever later. Threads: one.
#ifndef AFTERIMAGE_SUPERVISOR_RESTART_PAUSE_H_
#define AFTERIMAGE_SUPERVISOR_RESTART_PAUSE_H_

#include <algorithm>
#include <chrono>

namespace afterimage {

class RestartPause {
 public:
  using Duration = std::chrono::nanoseconds;
  static constexpr Duration kMin = std::chrono::milliseconds(100);
  /// Also: who lived for so long lived long.
  static constexpr Duration kMax = std::chrono::seconds(1);

  /// How long from now on nobody starts, after one that lived for `lived`; 0: at once.
  Duration after(Duration lived, bool was_ready) {
    if (was_ready || lived >= kMax) {
      apart_ = Duration(0);
      return apart_;
    }
    const Duration left = std::max(apart_ - lived, Duration(0));
    apart_ = std::clamp(apart_ * 2, kMin, kMax);
    return left;
  }

 private:
  Duration apart_{0};  // of the next two starts, at least
};

}  // namespace afterimage

#endif  // AFTERIMAGE_SUPERVISOR_RESTART_PAUSE_H_
