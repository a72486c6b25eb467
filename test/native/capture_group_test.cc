#include "capture/capture_group.h"

#include <dirent.h>
#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "stream_reader.h"

using namespace afterimage;
using namespace std::chrono_literals;
using Mode = CaptureGroup::Mode;

namespace {

using Record = FrameBuilder::Record;

std::unique_ptr<CaptureGroup> make_group(CaptureGroup::Options options = {}) {
  if (options.ring_bytes == CaptureGroup::Options{}.ring_bytes) options.ring_bytes = kRingBytesMin;
  options.group.fill(0xaa);
  options.member.fill(0xbb);
  auto group = CaptureGroup::create(options);
  REQUIRE(group.ok());
  return std::move(*group);
}

constexpr uint64_t kNoCeiling = UINT64_MAX;

std::unique_ptr<CaptureGroup> streaming_group(const CaptureGroup::Options& options = {}) {
  auto group = make_group(options);
  REQUIRE(
      group->begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = kNoCeiling}).ok());
  return group;
}

Record write_at(uint64_t offset, uint32_t length = 4096) {
  return {.kind = RecordKind::kWrite, .length = length, .offset = offset};
}

const std::vector<std::byte>& noise() {
  static const std::vector<std::byte> bytes = [] {
    std::vector<std::byte> made(kRecordBytesMax);
    uint64_t state = 88172645463325252;
    for (auto& b : made) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      b = static_cast<std::byte>(state);
    }
    return made;
  }();
  return bytes;
}

uint64_t publish_some(CaptureGroup& group, int count, uint32_t length = 4096) {
  uint64_t lsn = 0;
  for (int i = 0; i < count; ++i)
    lsn = group.publish(write_at(uint64_t(i) * length, length), noise().data()).lsn;
  return lsn;
}

std::string code_of(const Outcome& outcome) { return outcome.ok() ? "" : outcome.error().code; }

}  // namespace

TEST_CASE("capture group: before a generation nothing is published, and production does not notice") {
  const auto group = make_group();
  CHECK(group->publish(write_at(0), noise().data()).lsn == 0);
  CHECK(group->publish({.kind = RecordKind::kFlush}, nullptr).lsn == 0);
  const auto stats = group->stats();
  CHECK(stats.mode == Mode::kTracking);
  CHECK(stats.untracked_records == 1);
  CHECK(stats.records == 0);
  CHECK(stats.ring_used_bytes == 0);
}

TEST_CASE("capture group: LSNs are dense from the first one given, times rise") {
  const auto group = make_group();
  REQUIRE(group->begin_generation({.epoch = 1, .generation = 5, .first_lsn = 1000, .lsn_ceiling = kNoCeiling})
              .ok());
  uint64_t last_time = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    const auto publication = group->publish(write_at(0, 512), noise().data());
    CHECK(publication.lsn == 1000 + i);
    CHECK(publication.time_ns > last_time);
    last_time = publication.time_ns;
  }
  const auto position = group->position();
  CHECK(position.lsn == 1099);
  CHECK(position.time_ns >= last_time);
  CHECK(group->publish(write_at(0, 512), noise().data()).time_ns > position.time_ns);
  const auto stats = group->stats();
  CHECK(stats.records == 101);
  CHECK(stats.raw_bytes == 101 * 512);
  CHECK(stats.oldest_time_ns > 0);
}

TEST_CASE("capture group: nothing is framed before shipping starts, and then all of it is") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  const uint64_t last = publish_some(*group, 600);
  CHECK_FALSE(reader.next(20ms).has_value());
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until(last);
  CHECK(reader.frames >= 600 * 4096 / kFrameRawBytesMax);
  CHECK(reader.records.size() == 600);
  CHECK(group->stats().ring_used_bytes == 0);
  CHECK(group->stats().released_lsn == last);
}

TEST_CASE("capture group: every record captured comes out of the stream as it went in") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  reader.keeps_payload = true;
  REQUIRE(group->start_shipping(0, 0).ok());
  constexpr uint64_t kWrites = 1500;
  const auto content = [](uint64_t lsn) { return noise().data() + lsn * 512 % (kRecordBytesMax - 1024); };
  for (uint64_t lsn = 1; lsn <= kWrites; ++lsn) {
    Record record = write_at(lsn * 1024, 512 + lsn % 2 * 512);
    record.volume = static_cast<uint16_t>(lsn % 3);
    REQUIRE(group->publish(record, content(lsn)).lsn == lsn);
    if (lsn % 100 == 0) reader.take_until(lsn);
  }
  REQUIRE(reader.records.size() == kWrites);
  uint64_t differing = 0;
  for (uint64_t lsn = 1; lsn <= kWrites; ++lsn) {
    const StreamRecord& record = reader.records[lsn - 1];
    const uint32_t length = 512 + lsn % 2 * 512;
    const bool is_same = record.lsn == lsn && record.kind() == RecordKind::kWrite &&
                         record.entry.volume == lsn % 3 && record.entry.offset == lsn * 1024 &&
                         record.payload.size() == length &&
                         std::memcmp(record.payload.data(), content(lsn), length) == 0;
    differing += !is_same;
  }
  CHECK(differing == 0);
}

TEST_CASE("capture group: a lonely record does not wait for company for long") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  for (uint64_t lsn = 1; lsn <= 3; ++lsn) {
    publish_some(*group, 1);
    reader.take_until(lsn);
    CHECK(reader.frames == lsn);
  }
}

TEST_CASE("capture group: records that come together travel together") {
  // It waits for longer than any machine stalls; the end of the stream ends the wait.
  const auto group = streaming_group({.linger_us = 3'600'000'000});
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  publish_some(*group, 20);
  CHECK_FALSE(reader.next(20ms).has_value());
  const uint64_t last = publish_some(*group, 20);
  group->close_stream("TEST");
  reader.take_until_end();
  CHECK(reader.last_lsn == last);
  CHECK(reader.frames == 1);
}

TEST_CASE("capture group: little waits longer for company than much does") {
  using Clock = std::chrono::steady_clock;
  // So long that the machine's stalls do not matter beside it.
  const auto group = streaming_group({.linger_us = 500'000});
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  const auto wait_for = [&](int records) {
    const auto begin = Clock::now();
    const uint64_t last = publish_some(*group, records);
    if (records == 1) {
      std::this_thread::sleep_for(700ms);
      publish_some(*group, 1);
    }
    reader.take_until(last);
    return Clock::now() - begin;
  };
  const int frames = reader.frames;
  const auto little = wait_for(1);
  CHECK(reader.frames == frames + 1);
  CHECK(reader.last_lsn == 2);  // with what came after a whole linger
  const auto much = wait_for(60);
  CHECK(much < little);
}

TEST_CASE("capture group: on_ready is called once for each next() that returned nothing") {
  const auto group = streaming_group({.linger_us = 100});
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  publish_some(*group, 1);
  std::this_thread::sleep_for(50ms);
  CHECK(reader.calls() == 0);  // nobody asked yet
  REQUIRE(reader.take());
  const int before = reader.calls();  // one more where the machine is so slow that it had to be asked for
  CHECK_FALSE(group->next().has_value());
  CHECK_FALSE(group->next().has_value());
  publish_some(*group, 1);
  REQUIRE(reader.has_been_called(before + 1));
  const uint64_t last = publish_some(*group, 1);
  std::this_thread::sleep_for(50ms);
  CHECK(reader.calls() == before + 1);
  reader.take_until(last);
}

TEST_CASE("capture group: an idle pump sleeps, whether or not it ships") {
  const auto group = streaming_group({.linger_us = 100});
  StreamReader reader(*group);
  const auto switches = []() -> long {  // of the one pump thread there is, voluntary and not
    DIR* const tasks = opendir("/proc/self/task");
    REQUIRE(tasks != nullptr);
    long count = -1;
    while (const dirent* const task = readdir(tasks)) {
      const std::string path = std::string("/proc/self/task/") + task->d_name;
      std::string name, line;
      std::ifstream(path + "/comm") >> name;
      if (name != "frame-pump") continue;
      count = 0;
      for (std::ifstream status(path + "/status"); std::getline(status, line);)
        if (const auto at = line.find("ctxt_switches:"); at != std::string::npos)
          count += std::stol(line.substr(at + 14));
    }
    closedir(tasks);
    return count;
  };
  const auto sleeps = [&] {
    std::this_thread::sleep_for(50ms);
    const long before = switches();
    std::this_thread::sleep_for(150ms);
    return before > 0 && switches() == before;
  };
  CHECK(sleeps());
  REQUIRE(group->start_shipping(0, 0).ok());
  CHECK(sleeps());
  reader.take_until(publish_some(*group, 10));
  CHECK(sleeps());
  // With frames ready and nobody to take them, too.
  publish_some(*group, 10);
  CHECK(sleeps());
}

TEST_CASE("capture group: the pump builds ahead as far as its buffers go, and on when they come back") {
  const auto group = streaming_group({.ring_bytes = 40ull << 20});
  REQUIRE(group->start_shipping(0, 0).ok());
  const uint64_t last = publish_some(*group, 30, kRecordBytesMax);
  StreamReader reader(*group);
  reader.releases = false;
  std::vector<CaptureGroup::Frame> lent;
  while (lent.size() < kFramePoolCount) {
    const auto delivery = reader.next();
    REQUIRE(delivery.has_value());
    lent.push_back(std::get<CaptureGroup::Frame>(*delivery));
    std::memset(lent.back().bytes - kFrameHeadroomBytes, 0xee, kFrameHeadroomBytes);
  }
  CHECK_FALSE(reader.next(50ms).has_value());
  for (const auto& frame : lent) reader.apply(frame);
  for (const auto& frame : lent) group->release_frame(frame.pool_index);
  reader.take_until(last);
  CHECK(reader.frames == 30);
}

TEST_CASE("capture group: a full ring ends the stream at the last complete LSN and leaves production alone") {
  const auto group = streaming_group();
  uint64_t last = 0, refused = 0;
  for (int i = 0; i < 12; ++i) {
    const auto publication = group->publish(write_at(0, kRecordBytesMax), noise().data());
    if (publication.lsn != 0) {
      REQUIRE(refused == 0);  // once closed it stays closed
      last = publication.lsn;
    } else {
      ++refused;
    }
  }
  REQUIRE(group->mode() == Mode::kTracking);
  CHECK(group->stats().untracked_records == refused);
  CHECK(code_of(group->begin_generation({.generation = 2, .first_lsn = last + 1})) == "GENERATION_INVALID");
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until_end();
  CHECK(reader.last_lsn == last);
  CHECK(reader.ends.back().last_lsn == last);
  CHECK(reader.ends.back().generation == 1);
  CHECK(std::string(reader.ends.back().reason) == "RING_FULL");
  CHECK_FALSE(reader.next(20ms).has_value());  // one end only

  REQUIRE(group
              ->begin_generation(
                  {.epoch = 1, .generation = 2, .first_lsn = last + 100, .lsn_ceiling = kNoCeiling})
              .ok());
  reader.take_until(publish_some(*group, 3));
  CHECK(reader.generation == 2);
  CHECK(reader.records.back().lsn == last + 102);
}

TEST_CASE("capture group: records of one generation never share a frame with another's") {
  const auto group = streaming_group({.linger_us = 100'000});
  StreamReader reader(*group);
  reader.releases = false;
  REQUIRE(group->start_shipping(0, 0).ok());
  publish_some(*group, 5);
  group->close_stream("CLOSED");
  group->close_stream("RING_FULL");  // too late: it is closed
  reader.take_until_end();
  CHECK(std::string(reader.ends.back().reason) == "CLOSED");
  REQUIRE(group->begin_generation({.epoch = 1, .generation = 2, .first_lsn = 50, .lsn_ceiling = kNoCeiling})
              .ok());
  const uint64_t last = publish_some(*group, 5);
  reader.take_until(last);

  // Everything again from the middle of the first generation: its end comes again too, in its place.
  REQUIRE(group->start_shipping(2, 0x1234).ok());
  reader.rewind(2, 0x1234, 1);
  reader.records.clear();
  reader.take_until_end();
  CHECK(reader.last_lsn == 5);
  CHECK(reader.records.size() == 3);
  reader.take_until(last);
  CHECK(reader.records.size() == 8);
  CHECK(reader.ends.size() == 2);

  // From the end of the first: it does not come again, and what was never an LSN counts as held.
  REQUIRE(group->start_shipping(5, 0).ok());
  reader.rewind(5, 0, 1);
  reader.take_until(last);
  CHECK(reader.ends.size() == 2);
  CHECK(group->release(49).ok());
  REQUIRE(group->start_shipping(49, 0).ok());
  reader.rewind(49, 0, 2);
  reader.take_until(last);
  CHECK(reader.ends.size() == 2);
}

TEST_CASE(
    "capture group: a reconnect redelivers the same records after the durable one, chained to its frame") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  reader.releases = false;
  reader.keeps_payload = true;
  REQUIRE(group->start_shipping(0, 0).ok());
  for (uint64_t i = 0; i < 300; ++i) {
    const uint32_t length = 512 * (1 + i % 9);
    group->publish(write_at(i * 8192, length), noise().data() + i * 512);
    if (i % 50 == 0) group->publish({.kind = RecordKind::kFlush}, nullptr);
    if (i % 50 == 1) std::this_thread::sleep_for(5ms);
  }
  const uint64_t last = group->position().lsn;
  reader.take_until(last);
  const auto first_time = std::move(reader.records);
  for (const uint64_t durable : {uint64_t{0}, uint64_t{1}, uint64_t{137}, last}) {
    CAPTURE(durable);
    reader.records.clear();
    REQUIRE(group->start_shipping(durable, 99).ok());
    reader.rewind(durable, 99, 1);
    reader.take_until(last);
    REQUIRE(reader.records.size() == last - durable);
    for (size_t i = 0; i < reader.records.size(); ++i) {
      const StreamRecord& again = reader.records[i];
      const StreamRecord& before = first_time[durable + i];
      REQUIRE(again.lsn == before.lsn);
      RecordEntry a = again.entry, b = before.entry;
      a.payload_offset = b.payload_offset = 0;  // frames are cut anew
      REQUIRE(std::memcmp(&a, &b, sizeof a) == 0);
      REQUIRE(again.payload == before.payload);
    }
  }
}

TEST_CASE("capture group: an end that no generation has followed comes again in the next session") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  publish_some(*group, 5);
  group->close_stream("CLOSED");
  reader.take_until_end();
  REQUIRE(group->start_shipping(5, 0x77).ok());
  reader.take_until_end();
  CHECK(reader.ends.size() == 2);
  CHECK(reader.ends.back().last_lsn == 5);
}

TEST_CASE("capture group: a stop drops what was built, and a start finds it again") {
  const auto group = streaming_group({.linger_us = 100});
  StreamReader reader(*group);
  REQUIRE(group->start_shipping(0, 0).ok());
  const uint64_t last = publish_some(*group, 2000);
  group->stop_shipping();
  CHECK_FALSE(reader.next(20ms).has_value());
  for (int i = 0; i < 50; ++i) {  // in every state of the pump
    REQUIRE(group->start_shipping(0, 0).ok());
    std::this_thread::sleep_for(std::chrono::microseconds(i * 40));
    if (i % 2 == 0) group->stop_shipping();
  }
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until(last);
  CHECK(reader.records.size() == 2000);
}

TEST_CASE("capture group: watermarks that cannot be true are refused, old ones ignored") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  reader.releases = false;
  publish_some(*group, 10);
  CHECK(code_of(group->release(1)) == "WATERMARK_INVALID");  // captured, never shipped
  CHECK(code_of(group->start_shipping(1, 0)) == "WATERMARK_INVALID");
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until(10);
  CHECK(code_of(group->release(11)) == "WATERMARK_INVALID");
  CHECK(group->release(6).ok());
  CHECK(group->release(3).ok());
  CHECK(group->stats().released_lsn == 6);
  CHECK(code_of(group->start_shipping(5, 0)) ==
        "WATERMARK_INVALID");  // a receiver restored from an older copy
  CHECK(group->start_shipping(6, 0).ok());
  CHECK(code_of(group->release(7)) ==
        "WATERMARK_INVALID");  // not shipped again yet: its bytes are being read
  reader.rewind(6, 0, 1);
  reader.take_until(10);
  CHECK(group->release(10).ok());
  CHECK(group->stats().oldest_time_ns == 0);
}

TEST_CASE("capture group: no LSN above the ceiling is used, and a raised ceiling is") {
  const auto group = make_group();
  StreamReader reader(*group);
  REQUIRE(group->begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = 5}).ok());
  CHECK(publish_some(*group, 5) == 5);
  group->raise_ceiling(8);
  group->raise_ceiling(2);  // never lowered
  CHECK(publish_some(*group, 3) == 8);
  CHECK(publish_some(*group, 1) == 0);
  CHECK(group->mode() == Mode::kTracking);
  group->raise_ceiling(100);
  CHECK(publish_some(*group, 1) == 0);
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until_end();
  CHECK(reader.last_lsn == 8);
  CHECK(std::string(reader.ends.back().reason) == "LSN_CEILING");
}

TEST_CASE("capture group: generations that do not continue the numbers are refused") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  publish_some(*group, 3);
  const auto begin = [&](uint64_t generation, uint64_t first_lsn) {
    return code_of(group->begin_generation(
        {.epoch = 1, .generation = generation, .first_lsn = first_lsn, .lsn_ceiling = kNoCeiling}));
  };
  CHECK(begin(2, 4) == "GENERATION_INVALID");  // still streaming
  group->close_stream("CLOSED");
  CHECK(begin(2, 4) == "GENERATION_INVALID");  // its end was not delivered
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until_end();
  CHECK(begin(1, 4) == "GENERATION_INVALID");
  CHECK(begin(2, 3) == "GENERATION_INVALID");
  CHECK(begin(2, 4) == "");
  reader.take_until(publish_some(*group, 1));
}

TEST_CASE("capture group: generations without records end one after the other") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  reader.releases = false;
  REQUIRE(group->start_shipping(0, 0).ok());
  for (uint64_t generation = 2; generation < 6; ++generation) {
    group->close_stream("CLOSED");
    reader.take_until_end();
    CHECK(reader.ends.back().generation == generation - 1);
    REQUIRE(group
                ->begin_generation({.epoch = 1,
                                    .generation = generation,
                                    .first_lsn = generation * 10,
                                    .lsn_ceiling = kNoCeiling})
                .ok());
    reader.last_lsn = generation * 10 - 1;
  }
  reader.take_until(publish_some(*group, 1));
  CHECK(reader.last_lsn == 50);
  CHECK(reader.generation == 5);
}

TEST_CASE("capture group: an abandoned stream leaves nothing behind and ends without an end") {
  const auto group = streaming_group();
  StreamReader reader(*group);
  reader.releases = false;
  publish_some(*group, 20);
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until(20);
  group->abandon_stream();
  CHECK(group->mode() == Mode::kTracking);
  CHECK(group->stats().ring_used_bytes == 0);
  CHECK_FALSE(reader.next(20ms).has_value());
  REQUIRE(group->begin_generation({.epoch = 2, .generation = 2, .first_lsn = 100, .lsn_ceiling = kNoCeiling})
              .ok());
  publish_some(*group, 1);
  REQUIRE(group->start_shipping(99, 0).ok());
  reader.rewind(99, 0, 2);
  reader.take_until(100);
  CHECK(reader.ends.empty());
}

TEST_CASE("capture group: a clock that is told of later times goes on behind them, and never back") {
  std::atomic<uint64_t> realtime{1'700'000'000'000'000'000};
  const auto group = streaming_group({.clock = [&] { return ClockReading{realtime.load(), 1'000'000'000}; }});
  StreamReader reader(*group);
  CHECK(group->publish(write_at(0), noise().data()).time_ns == realtime);
  group->abandon_stream();
  group->resume_clock(realtime + 500, 7);
  group->resume_clock(realtime + 900, 3);
  group->resume_clock(realtime + 200, 7);
  CHECK(group->stats().era == 7);
  REQUIRE(group->begin_generation({.epoch = 2, .generation = 2, .first_lsn = 100, .lsn_ceiling = kNoCeiling})
              .ok());
  CHECK(group->publish(write_at(0), noise().data()).time_ns == realtime + 501);
  realtime -= 10'000'000'000;
  CHECK(group->publish(write_at(0), noise().data()).lsn == 102);  // the step took one
  CHECK(group->stats().era == 8);
}

TEST_CASE("capture group: a step of the clock is a record, and opens an era and a frame") {
  std::atomic<uint64_t> realtime{1'700'000'000'000'000'000};
  const auto group = streaming_group({.linger_us = 50'000, .clock = [&] {
                                        return ClockReading{realtime.load(), 1'000'000'000};
                                      }});
  StreamReader reader(*group);
  publish_some(*group, 2);
  realtime -= 10'000'000'000;
  const auto after = group->publish(write_at(0), noise().data());
  CHECK(after.lsn == 4);  // the step took one
  CHECK(after.time_ns == realtime + 1);
  CHECK(group->stats().era == 2);
  realtime -= 900'000'000;
  CHECK(group->publish(write_at(0), noise().data()).time_ns == after.time_ns + 1);  // smoothed
  realtime += 5'000'000'000;
  publish_some(*group, 1);
  REQUIRE(group->start_shipping(0, 0).ok());
  reader.take_until(7);
  CHECK(reader.frames == 3);
  REQUIRE(reader.records.size() == 7);
  CHECK(reader.records[2].kind() == RecordKind::kClock);
  CHECK(reader.records[2].era == 2);
  CHECK(reader.records[3].era == 2);
  CHECK(reader.records[4].era == 2);
  CHECK(reader.records[5].kind() == RecordKind::kClock);
  CHECK(reader.records[6].era == 3);
}

TEST_CASE("capture group: a stream closed under many writers ends exactly at the last LSN given") {
  for (int round = 0; round < 10; ++round) {
    const auto group = streaming_group({.ring_bytes = 32ull << 20, .linger_us = 50});
    StreamReader reader(*group);
    REQUIRE(group->start_shipping(0, 0).ok());
    std::atomic<uint64_t> last{0};
    std::vector<std::thread> writers;
    for (int t = 0; t < 4; ++t) {
      writers.emplace_back([&] {
        for (int i = 0; i < 300; ++i) {
          const uint64_t lsn = group->publish(write_at(0, 8192), noise().data()).lsn;
          for (uint64_t seen = last; seen < lsn && !last.compare_exchange_weak(seen, lsn);) continue;
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::microseconds(300 * round));
    group->close_stream("CLOSED");
    reader.take_until_end();
    for (auto& writer : writers) writer.join();
    CHECK(reader.ends.back().last_lsn == last);
    CHECK(reader.records.size() == last);
  }
}
