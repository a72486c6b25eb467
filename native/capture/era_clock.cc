#include "capture/era_clock.h"

#include <algorithm>
#include <ctime>
#include <utility>

namespace afterimage {
namespace {

uint64_t nanoseconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

int64_t offset_of(const ClockReading& reading) {
  return static_cast<int64_t>(reading.realtime_ns - reading.monotonic_ns);
}

}  // namespace

ClockReading read_clock() { return {nanoseconds(CLOCK_REALTIME), nanoseconds(CLOCK_BOOTTIME)}; }

EraClock::EraClock(Source source, uint64_t last_ns, uint32_t era, std::optional<int64_t> era_offset_ns)
    : source_(std::move(source)), last_ns_(last_ns), era_(era), era_offset_ns_(era_offset_ns) {}

bool EraClock::stepped(const ClockReading& reading) const {
  // A restart knows no offset: there, a clock far behind the last time given is the only sign of a step.
  if (last_ns_ > reading.realtime_ns + kClockStepNs) return true;
  if (!era_offset_ns_) return false;
  const int64_t step = offset_of(reading) - *era_offset_ns_;
  return static_cast<uint64_t>(step < 0 ? -step : step) > kClockStepNs;
}

void EraClock::resume(uint64_t last_ns, uint32_t era) {
  if (era != era_) era_offset_ns_.reset();
  last_ns_ = last_ns;
  era_ = era;
}

EraClock::Stamp EraClock::take() {
  const ClockReading reading = source_();
  const bool opens_era = stepped(reading);
  if (opens_era || !era_offset_ns_) era_offset_ns_ = offset_of(reading);
  if (opens_era) {
    ++era_;
    last_ns_ = reading.realtime_ns;
  } else {
    last_ns_ = std::max(reading.realtime_ns, last_ns_ + 1);
  }
  return {last_ns_, opens_era};
}

uint64_t EraClock::now() {
  const ClockReading reading = source_();
  // After a step that no record has announced yet, "now" has no place in this era.
  if (!stepped(reading)) last_ns_ = std::max(reading.realtime_ns, last_ns_);
  return last_ns_;
}

}  // namespace afterimage
