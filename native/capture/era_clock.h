// EraClock: the times of one member's records. CLOCK_REALTIME in nanoseconds, strictly increasing within a
// time era and across restarts. A step of more than kClockStepNs opens a new era; a smaller one backwards is
// smoothed: time then goes on by single nanoseconds until the clock has caught up.
//
// A step is seen as a change of CLOCK_REALTIME − CLOCK_BOOTTIME against what it was when the era began: both
// are slewed alike, so their difference changes by steps only, and many small ones are noticed as soon as
// their sum is large.
//
// Threads: one at a time (CaptureGroup holds its sequence mutex).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace afterimage {

constexpr uint64_t kClockStepNs = 1'000'000'000;  // a larger jump opens a new time era

struct ClockReading {
  uint64_t realtime_ns = 0;
  uint64_t monotonic_ns = 0;  // never stepped; runs on while the machine sleeps
};
ClockReading read_clock();

class EraClock {
 public:
  using Source = std::function<ClockReading()>;

  /// Continues above `last_ns` in era `era`, which began with `era_offset_ns` if that is known.
  EraClock(Source source, uint64_t last_ns, uint32_t era, std::optional<int64_t> era_offset_ns = {});

  /// Continues above a later time, of the same era or of one that followed.
  void resume(uint64_t last_ns, uint32_t era);

  struct Stamp {
    uint64_t time_ns = 0;
    bool opens_era = false;  // the first time of a new era: it belongs to the record that says so
  };
  Stamp take();
  /// A time not before any stamp, and before every later stamp of the era.
  uint64_t now();
  uint64_t last_ns() const { return last_ns_; }
  uint32_t era() const { return era_; }
  /// CLOCK_REALTIME − CLOCK_BOOTTIME when the era began; 0 before the first stamp.
  int64_t era_offset_ns() const { return era_offset_ns_.value_or(0); }

 private:
  bool stepped(const ClockReading& reading) const;

  Source source_;
  uint64_t last_ns_;
  uint32_t era_;
  std::optional<int64_t> era_offset_ns_;  // CLOCK_REALTIME − CLOCK_BOOTTIME when the era began
};

}  // namespace afterimage
