#include "capture/era_clock.h"

#include <doctest/doctest.h>

using namespace afterimage;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 1'700'000'000 * kSecond;

struct Hands {
  ClockReading reading{kStart, 50 * kSecond};
  EraClock::Source source() {
    return [this] { return reading; };
  }
  void pass(uint64_t ns) { reading.realtime_ns += ns, reading.monotonic_ns += ns; }
  void step(int64_t ns) { reading.realtime_ns += static_cast<uint64_t>(ns); }
};

}  // namespace

TEST_CASE("era clock: a clock that stands still still gives rising times") {
  Hands hands;
  EraClock clock(hands.source(), 0, 1);
  CHECK(clock.take().time_ns == kStart);
  CHECK(clock.take().time_ns == kStart + 1);
  CHECK(clock.take().time_ns == kStart + 2);
  CHECK(clock.era() == 1);
}

TEST_CASE("era clock: a small step back is smoothed, a small step forward is followed") {
  Hands hands;
  EraClock clock(hands.source(), 0, 1);
  clock.take();
  hands.step(-static_cast<int64_t>(kClockStepNs));
  const auto smoothed = clock.take();
  CHECK_FALSE(smoothed.opens_era);
  CHECK(smoothed.time_ns == kStart + 1);
  hands.step(static_cast<int64_t>(kClockStepNs) + 500);
  CHECK(clock.take().time_ns == kStart + 500);
  CHECK(clock.era() == 1);
}

TEST_CASE("era clock: a large step in either direction opens an era once") {
  for (const int64_t step : {-3600 * static_cast<int64_t>(kSecond), static_cast<int64_t>(kClockStepNs) + 1}) {
    CAPTURE(step);
    Hands hands;
    EraClock clock(hands.source(), 0, 7);
    clock.take();
    hands.pass(10);
    hands.step(step);
    const auto first = clock.take();
    CHECK(first.opens_era);
    CHECK(first.time_ns == kStart + 10 + static_cast<uint64_t>(step));
    const auto second = clock.take();
    CHECK_FALSE(second.opens_era);
    CHECK(second.time_ns == first.time_ns + 1);
    CHECK(clock.era() == 8);
  }
}

TEST_CASE("era clock: many small steps are noticed when their sum is large") {
  Hands hands;
  EraClock clock(hands.source(), 0, 1);
  clock.take();
  int eras = 0;
  for (int i = 0; i < 5; ++i) {
    hands.step(-400'000'000);
    eras += clock.take().opens_era;
  }
  CHECK(eras == 1);
}

TEST_CASE("era clock: days without a record are not a step") {
  Hands hands;
  EraClock clock(hands.source(), 0, 1);
  clock.take();
  hands.pass(10 * 86400 * kSecond);
  CHECK_FALSE(clock.take().opens_era);
}

TEST_CASE(
    "era clock: a restart continues above the last time, or opens an era when the clock is far behind") {
  Hands hands;
  EraClock near(hands.source(), kStart + kClockStepNs, 3);
  CHECK(near.take().time_ns == kStart + kClockStepNs + 1);
  CHECK(near.era() == 3);
  EraClock far(hands.source(), kStart + kClockStepNs + 1, 3);
  CHECK(far.take().opens_era);
  CHECK(far.era() == 4);
}

TEST_CASE("era clock: now lies between the stamps before and after it") {
  Hands hands;
  EraClock clock(hands.source(), 0, 1);
  const uint64_t before = clock.take().time_ns;
  hands.pass(100);
  const uint64_t now = clock.now();
  CHECK(now == before + 100);
  CHECK(clock.take().time_ns > now);
  hands.step(-5 * static_cast<int64_t>(kSecond));
  CHECK(clock.now() >= now);  // a step that no record has announced is none yet
  CHECK(clock.take().opens_era);
}

TEST_CASE("era clock: the machine's own clocks run") {
  const ClockReading first = read_clock();
  const ClockReading second = read_clock();
  CHECK(second.monotonic_ns >= first.monotonic_ns);
  CHECK(first.realtime_ns > kStart);
}
