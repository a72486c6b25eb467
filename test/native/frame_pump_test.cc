#include "capture/frame_pump.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <chrono>
#include <thread>

using namespace afterimage;
using namespace std::chrono_literals;

namespace {

std::chrono::microseconds processor_time() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto of = [](const timeval& time) {
    return std::chrono::microseconds(time.tv_sec * 1'000'000 + time.tv_usec);
  };
  return of(used.ru_utime) + of(used.ru_stime);
}

std::optional<FramePump::Delivery> next_of(FramePump& pump) {
  const auto patience = std::chrono::steady_clock::now() + 10s;
  while (std::chrono::steady_clock::now() < patience) {
    if (auto delivery = pump.next()) return delivery;
    std::this_thread::sleep_for(1ms);
  }
  return std::nullopt;
}

}  // namespace

// Symptom: while a writer that had its place was kept from filling it (preempted, or its payload swapped
// out), and the stream behind it had ended, the pump looked for the record without a pause and never let go
// of its mutex, for which the main thread and the writers then waited. If it returns, the pump takes all of
// one processor here.
TEST_CASE("frame pump: the end of a stream waits asleep for a record that is still being copied") {
  auto ring = CaptureRing::create(kRingBytesMin);
  REQUIRE(ring.ok());
  CaptureGroup::Options options;
  options.linger_us = 0;
  Backlog backlog(ring->get());
  FramePump pump(&backlog, {}, options);
  pump.generation_began(1);
  RingRecord* const record = (*ring)->reserve(0);
  REQUIRE(record != nullptr);
  record->lsn = record->generation = record->era = 1;
  record->time_ns = 1;
  record->offset = record->length = record->volume = 0;
  record->kind = static_cast<uint8_t>(RecordKind::kFlush);
  record->flags = 0;
  pump.start(0, 0);
  pump.stream_ended((*ring)->reserve_position(), {1, 1, "CLOSED"});

  const auto used_before = processor_time();
  const auto began = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(100ms);
  CHECK_FALSE(pump.next().has_value());
  CHECK(processor_time() - used_before < (std::chrono::steady_clock::now() - began) / 2);

  CaptureRing::publish(record);
  pump.record_published();
  const auto frame = next_of(pump);
  REQUIRE(frame.has_value());
  REQUIRE(std::holds_alternative<FramePump::Frame>(*frame));
  const auto end = next_of(pump);
  REQUIRE(end.has_value());
  CHECK(std::get<FramePump::StreamEnd>(*end).last_lsn == 1);
}
