#include "device/captured_device.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

#include "block_device_contract.h"
#include "device/file_device.h"
#include "dirty_log_disk.h"
#include "memory_device.h"
#include "scratch_files.h"
#include "stream_reader.h"

using namespace afterimage;
using namespace std::chrono_literals;
using Mode = CaptureGroup::Mode;

namespace {

using Random = std::mt19937_64;

/// A group with one or more captured volumes over memory, and the reader at its other end.
struct Site {
  explicit Site(uint16_t volumes = 1, uint64_t volume_bytes = 4u << 20, uint64_t ring_bytes = kRingBytesMin) {
    auto made = CaptureGroup::create({.ring_bytes = ring_bytes, .linger_us = 500});
    REQUIRE(made.ok());
    group = std::move(*made);
    reader = std::make_unique<StreamReader>(*group);
    for (uint16_t number = 0; number < volumes; ++number) {
      auto memory = std::make_unique<MemoryDevice>(volume_bytes);
      backings.push_back(memory.get());
      devices.push_back(std::make_unique<CapturedDevice>(std::move(memory), group.get(), number));
      reader->images[number].resize(volume_bytes);
    }
  }
  ~Site() {
    devices.clear();
    reader.reset();
  }
  void stream(uint64_t generation = 1, uint64_t first_lsn = 1) {
    REQUIRE(group
                ->begin_generation(
                    {.epoch = 1, .generation = generation, .first_lsn = first_lsn, .lsn_ceiling = UINT64_MAX})
                .ok());
    if (generation == 1) REQUIRE(group->start_shipping(0, 0).ok());
  }
  void check_replay_equals_backing() {
    for (uint16_t volume = 0; volume < backings.size(); ++volume) {
      const auto content = backings[volume]->content();
      const auto& image = reader->images[volume];
      const auto [in_backing, in_image] = std::mismatch(content.begin(), content.end(), image.begin());
      CHECK_MESSAGE(in_backing == content.end(), "volume ", volume, " differs at byte ",
                    in_backing - content.begin());
    }
  }
  CapturedDevice& device(uint16_t number = 0) { return *devices[number]; }
  MemoryDevice& backing(uint16_t number = 0) { return *backings[number]; }
  void take_all() { reader->take_until(group->position().lsn); }

  std::unique_ptr<CaptureGroup> group;
  std::unique_ptr<StreamReader> reader;
  std::vector<MemoryDevice*> backings;
  std::vector<std::unique_ptr<CapturedDevice>> devices;
};

std::vector<std::byte> bytes(size_t count, int value = 0x5a) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

/// One random modification: 512 B to 1 MiB, half of them near the start so that they meet, some of them
/// unaligned.
void modify_somewhere(CapturedDevice& device, Random& random, std::vector<std::byte>& buffer) {
  uint64_t length = 512 * (1 + random() % (1u << (random() % 12)));
  length = std::min<uint64_t>(length, kRecordBytesMax);
  const uint64_t span = random() % 2 == 0 ? std::min<uint64_t>(device.size(), length + 8192) : device.size();
  uint64_t offset = random() % (span - length + 1) / 512 * 512;
  if (random() % 8 == 0) {
    length -= random() % 511;
    offset += random() % 7;
    length = std::min(length, device.size() - offset);
  }
  const auto stamp = static_cast<std::byte>(random());
  switch (random() % 16) {
    case 0:
      CHECK(device.trim(offset, length, {}) == 0);
      break;
    case 1:
      CHECK(device.zero(offset, length, {}) == 0);
      break;
    case 2:
      CHECK(device.flush() == 0);
      [[fallthrough]];
    default:
      std::fill_n(buffer.begin(), length, stamp);
      CHECK(device.write(offset, length, buffer.data(), {.fua = random() % 8 == 0}) == 0);
  }
}

}  // namespace

TEST_CASE("captured device: it keeps the contract of BlockDevice, streaming and tracking") {
  for (const bool streaming : {true, false}) {
    auto made = CaptureGroup::create({.ring_bytes = 64u << 20});
    REQUIRE(made.ok());
    CaptureGroup& group = **made;
    if (streaming)
      REQUIRE(group.begin_generation({.generation = 1, .first_lsn = 1, .lsn_ceiling = UINT64_MAX}).ok());
    check_block_device_contract(streaming ? "captured, streaming" : "captured, tracking", [&](uint64_t size) {
      return std::make_shared<CapturedDevice>(std::make_unique<MemoryDevice>(size), &group, 0);
    });
  }
}

TEST_CASE("captured device: under overlapping writers the journal's replay is what the backing holds") {
  const uint64_t seed = 7;
  CAPTURE(seed);
  Site site(2, 2u << 20, 32u << 20);
  for (MemoryDevice* backing : site.backings) backing->dawdles = true;
  site.stream();
  std::atomic<int> running{6};
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 6; ++t) {
    writers.emplace_back([&, t] {
      Random random(seed * 1000 + t);
      std::vector<std::byte> buffer(kRecordBytesMax + 512);
      for (int i = 0; i < 250; ++i) {
        while (site.group->is_crowded()) std::this_thread::sleep_for(1ms);
        modify_somewhere(site.device(static_cast<uint16_t>(random() % 2)), random, buffer);
      }
      --running;
    });
  }
  while (running > 0) (void)site.reader->take(10ms);
  for (auto& writer : writers) writer.join();
  const uint64_t last = std::max(site.device(0).fence(), site.device(1).fence());
  REQUIRE(site.group->mode() == Mode::kStreaming);
  site.reader->take_until(last);
  CHECK(site.reader->records.size() == last);  // dense: the reader checks each frame against the one before
  for (const auto& record : site.reader->records) REQUIRE(record.kind() != RecordKind::kVoid);
  site.check_replay_equals_backing();
}

TEST_CASE("captured device: of two writes in flight over one range, backing and journal agree on the last") {
  Site site;
  std::atomic<int> written{0};
  std::atomic<bool> is_overtaken{false};
  // Whoever reached the backing first is not published for a while: time enough to be overtaken.
  site.backing().after_write = [&] {
    if (written.fetch_add(1) != 0) return;
    const auto end = std::chrono::steady_clock::now() + 500ms;
    while (!is_overtaken && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  };
  site.stream();
  const auto first = bytes(8192, 0x11), second = bytes(8192, 0x22);
  std::thread writer([&] { CHECK(site.device().write(0, 8192, first.data(), {}) == 0); });
  while (written == 0) std::this_thread::sleep_for(1ms);
  CHECK(site.device().write(4096, 8192, second.data(), {}) == 0);
  is_overtaken = true;
  writer.join();
  site.take_all();
  site.check_replay_equals_backing();
}

TEST_CASE("captured device: a write acknowledged before another was submitted has the lower LSN") {
  Site site(2, 1u << 20, 32u << 20);
  for (MemoryDevice* backing : site.backings) backing->dawdles = true;
  site.reader->keeps_payload = true;
  site.stream();
  struct Interval {
    uint64_t submitted = 0;
    uint64_t acknowledged = 0;
  };
  constexpr uint64_t kThreads = 4, kWrites = 200;
  std::vector<Interval> intervals(kThreads * kWrites);
  std::atomic<uint64_t> moment{1};
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      std::vector<std::byte> sector(512);
      for (uint64_t i = 0; i < kWrites; ++i) {
        const uint64_t id = t * kWrites + i;
        const uint64_t stamp = id + 1;
        std::memcpy(sector.data(), &stamp, sizeof stamp);
        intervals[id].submitted = moment++;
        REQUIRE(site.device(static_cast<uint16_t>(i % 2)).write(id * 512, 512, sector.data(), {}) == 0);
        intervals[id].acknowledged = moment++;
      }
    });
  }
  for (auto& writer : writers) writer.join();
  while (site.reader->records.size() < intervals.size()) REQUIRE(site.reader->take());

  uint64_t latest_submission = 0, violations = 0;  // among those with a lower LSN
  for (const StreamRecord& record : site.reader->records) {
    if (record.payload.empty()) continue;
    uint64_t stamp;
    std::memcpy(&stamp, record.payload.data(), sizeof stamp);
    const Interval& interval = intervals[stamp - 1];
    violations += interval.acknowledged < latest_submission;
    latest_submission = std::max(latest_submission, interval.submitted);
  }
  CHECK(violations == 0);
}

TEST_CASE("captured device: what is journaled is never ahead of the backing") {
  Site site;
  site.stream();
  site.backing().before_write = [&] {
    std::this_thread::sleep_for(1ms);
    CHECK(site.group->position().lsn == 0);
  };
  const auto content = bytes(4096);
  CHECK(site.device().write(0, 4096, content.data(), {}) == 0);
  CHECK(site.group->position().lsn == 1);
}

TEST_CASE("captured device: after a full ring a resync through the journal makes both sides equal again") {
  Site site(1, 4u << 20);
  site.stream();
  site.group->stop_shipping();  // the receiver is away
  Random random(3);
  std::vector<std::byte> buffer(kRecordBytesMax + 512);
  for (int i = 0; i < 300; ++i) modify_somewhere(site.device(), random, buffer);
  REQUIRE(site.group->mode() == Mode::kTracking);
  CHECK(site.group->stats().untracked_records > 0);
  uint64_t lsn = 1;
  CHECK(site.device().republish(0, 4096, &lsn) == 0);
  CHECK(lsn == 0);  // nothing to join

  REQUIRE(site.group->start_shipping(0, 0).ok());
  site.reader->take_until_end();
  CHECK(std::string(site.reader->ends.back().reason) == "RING_FULL");
  site.stream(2, site.reader->last_lsn + 1);

  std::atomic<bool> copied{false};
  std::atomic<bool> produced{false};
  std::atomic<uint64_t> pieces{0};
  std::thread resync([&] {
    for (uint64_t offset = 0; offset < site.device().size();) {
      uint64_t piece_lsn = 0;
      const Errno error = site.device().republish(offset, 256u << 10, &piece_lsn);
      if (error == EAGAIN) continue;
      REQUIRE(error == 0);
      REQUIRE(piece_lsn > 0);
      offset += 256u << 10;
      ++pieces;
    }
    copied = true;
  });
  std::thread production([&] {
    std::vector<std::byte> content(kRecordBytesMax + 512);
    Random other(4);
    do {
      while (site.group->is_crowded()) std::this_thread::sleep_for(1ms);
      modify_somewhere(site.device(), other, content);
    } while (!copied);
    produced = true;
  });
  while (!produced) (void)site.reader->take(10ms);
  resync.join();
  production.join();
  site.reader->take_until(site.device().fence());
  CHECK(site.group->mode() == Mode::kStreaming);
  site.check_replay_equals_backing();
  uint64_t flagged = 0;
  for (const auto& record : site.reader->records) flagged += (record.entry.flags & kRecordResync) != 0;
  CHECK(flagged == pieces);
}

TEST_CASE("captured device: what is read settled is what the records up to its LSN leave there") {
  Site site;
  std::atomic<bool> written{false};
  std::atomic<bool> is_read{false};
  // It is on the backing, and in no record yet: a replica at the last LSN does not hold it.
  site.backing().after_write = [&] {
    written = true;
    const auto end = std::chrono::steady_clock::now() + 200ms;
    while (!is_read && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  };
  site.stream();
  const auto content = bytes(4096, 0x11);
  std::thread writer([&] { CHECK(site.device().write(4096, 4096, content.data(), {}) == 0); });
  while (!written) std::this_thread::sleep_for(1ms);
  std::vector<std::byte> seen(8192);
  uint64_t lsn = 0;
  CHECK(site.device().read_settled(0, seen.size(), seen.data(), &lsn) == 0);
  is_read = true;
  writer.join();
  CHECK(lsn == 1);
  site.reader->take_until(lsn);
  CHECK(std::equal(seen.begin(), seen.end(), site.reader->images[0].begin()));

  CHECK(site.device().read_settled(1, 512, seen.data(), &lsn) == EINVAL);
  CHECK(site.device().read_settled(site.device().size(), 512, seen.data(), &lsn) == EINVAL);
  CHECK(site.device().read_settled(0, kRecordBytesMax + 512, seen.data(), &lsn) == EINVAL);
  site.group->close_stream("TEST");
  CHECK(site.device().read_settled(0, 512, seen.data(), &lsn) == 0);
  CHECK(lsn == 0);  // nothing says what a replica holds now
}

TEST_CASE("captured device: a republished range of zeroes is a zero record") {
  Site site;
  site.stream();
  const auto content = bytes(4096);
  CHECK(site.device().write(4096, 4096, content.data(), {}) == 0);
  uint64_t lsn = 0;
  CHECK(site.device().republish(0, 4096, &lsn) == 0);
  CHECK(lsn == 2);
  CHECK(site.device().republish(4096, 4096, &lsn) == 0);
  CHECK(lsn == 3);
  CHECK(site.device().republish(0, kRecordBytesMax + 512, &lsn) == EINVAL);
  CHECK(site.device().republish(1, 512, &lsn) == EINVAL);
  CHECK(site.device().republish(site.device().size(), 512, &lsn) == EINVAL);
  site.take_all();
  REQUIRE(site.reader->records.size() == 3);
  CHECK(site.reader->records[1].kind() == RecordKind::kZero);
  CHECK(site.reader->records[1].entry.flags == kRecordResync);
  CHECK(site.reader->records[2].kind() == RecordKind::kWrite);
  CHECK(site.reader->records[2].entry.flags == kRecordResync);
}

TEST_CASE("captured device: copying leaves the second half of the ring to production") {
  Site site;
  site.stream();
  site.group->stop_shipping();
  const auto content = bytes(kRecordBytesMax);
  for (int i = 0; i < 5; ++i) REQUIRE(site.device().write(0, kRecordBytesMax, content.data(), {}) == 0);
  uint64_t lsn = 77;
  CHECK(site.device().republish(0, 4096, &lsn) == EAGAIN);
  CHECK(lsn == 0);
  CHECK(site.group->position().lsn == 5);
  CHECK(site.device().write(0, kRecordBytesMax, content.data(), {}) == 0);
  CHECK(site.group->position().lsn == 6);
  REQUIRE(site.group->start_shipping(0, 0).ok());
  site.take_all();
  CHECK(site.device().republish(0, 4096, &lsn) == 0);
  CHECK(lsn == 7);
}

TEST_CASE("captured device: a long request becomes records of the permitted length") {
  Site site(1, 4u << 20);
  site.stream();
  auto content = bytes(2 * kRecordBytesMax + 512, 1);
  std::fill_n(content.begin() + kRecordBytesMax, kRecordBytesMax, std::byte{0});
  CHECK(site.device().write(512, content.size(), content.data(), {}) == 0);
  CHECK(site.device().trim(0, 2u << 20, {}) == 0);
  site.take_all();
  REQUIRE(site.reader->records.size() == 4);
  CHECK(site.reader->records[0].entry.length == kRecordBytesMax);
  CHECK(site.reader->records[1].kind() == RecordKind::kZero);
  CHECK(site.reader->records[2].entry.length == 512);
  CHECK(site.reader->records[3].kind() == RecordKind::kZero);
  CHECK(site.reader->records[3].entry.flags == kRecordTrim);
  CHECK(site.reader->records[3].entry.length == 2u << 20);
  site.check_replay_equals_backing();
}

TEST_CASE(
    "captured device: unaligned requests are journaled in whole sectors with the backing's other bytes") {
  Site site(1, 64u << 10);
  site.stream();
  const auto ground = bytes(64u << 10, 0x11), content = bytes(64u << 10, 0x22);
  REQUIRE(site.device().write(0, ground.size(), ground.data(), {}) == 0);
  struct Range {
    uint64_t offset, length;
  };
  for (const Range range : {Range{1, 1}, Range{511, 2}, Range{1000, 24}, Range{1024, 100}, Range{5000, 9000},
                            Range{65535, 1}, Range{20000, 480}, Range{20480, 513}}) {
    CAPTURE(range.offset);
    REQUIRE(site.device().write(range.offset, range.length, content.data(), {}) == 0);
    REQUIRE(site.device().zero(range.offset, range.length / 2 + 1, {}) == 0);
    site.take_all();
    site.check_replay_equals_backing();
    REQUIRE(site.device().write(range.offset, range.length, content.data(), {}) == 0);
    REQUIRE(site.device().trim(range.offset, range.length, {}) == 0);
    site.take_all();
    site.check_replay_equals_backing();
  }
}

TEST_CASE("captured device: a failed write is journaled as what the backing then holds, and fails") {
  Site site;
  site.stream();
  const auto before = bytes(8192, 1), after = bytes(8192, 2);
  REQUIRE(site.device().write(0, 8192, before.data(), {}) == 0);
  std::atomic<uint32_t> executed{0};
  site.backing().write_error = EIO;
  CHECK(site.device().write(0, 8192, after.data(), {.executed = &executed}) == EIO);  // half of it arrives
  CHECK(executed == 0);
  CHECK(site.device().trim(0, 8192, {}) == EIO);
  site.take_all();
  CHECK(site.group->mode() == Mode::kStreaming);
  CHECK(site.reader->images[0][4095] == std::byte{2});
  site.check_replay_equals_backing();
  CHECK(site.device().counters().errors == 2);
}

TEST_CASE(
    "captured device: when the range cannot be read again either, the stream is closed and production goes "
    "on") {
  Site site;
  site.stream();
  const auto content = bytes(8192);
  REQUIRE(site.device().write(0, 8192, content.data(), {}) == 0);
  site.backing().write_error = EIO;
  site.backing().read_error = EIO;
  CHECK(site.device().write(4096, 8192, content.data(), {}) == EIO);
  CHECK(site.group->mode() == Mode::kTracking);
  site.backing().write_error = 0;
  CHECK(site.device().write(4096, 8192, content.data(), {}) == 0);
  site.reader->take_until_end();
  CHECK(std::string(site.reader->ends.back().reason) == "BACKING_FAILED");
  CHECK(site.reader->ends.back().last_lsn == 1);
}

TEST_CASE("captured device: a long range in doubt is not read again under its lock, the stream is closed") {
  Site site(1, 80u << 20);
  site.stream();
  site.backing().write_error = EIO;
  CHECK(site.device().trim(0, 72u << 20, {}) == EIO);
  CHECK(site.group->mode() == Mode::kTracking);
  site.reader->take_until_end();
  CHECK(std::string(site.reader->ends.back().reason) == "BACKING_FAILED");
  CHECK(site.reader->ends.back().last_lsn == 0);
}

TEST_CASE("captured device: a refused fast zero touches neither backing nor journal, and is no error") {
  Site site;
  site.stream();
  CHECK(site.device().zero(0, 4096, {.fast_only = true}) == ENOTSUP);
  CHECK(site.group->position().lsn == 0);
  CHECK(site.device().counters().errors == 0);
}

TEST_CASE("captured device: a flush is journaled after the backing took it, a failed one never") {
  Site site;
  site.stream();
  CHECK(site.device().flush() == 0);
  CHECK(site.backing().flushes == 1);
  CHECK(site.group->position().lsn == 1);
  site.backing().flush_error = EIO;
  CHECK(site.device().flush() == EIO);
  CHECK(site.group->position().lsn == 1);
  site.take_all();
  CHECK(site.reader->records[0].kind() == RecordKind::kFlush);
  const auto content = bytes(512);
  CHECK(site.device().write(0, 512, content.data(), {.fua = true}) == 0);
  CHECK(site.backing().fua_writes == 1);
}

TEST_CASE("captured device: the slot is marked when backing and ring hold the request, tracking or not") {
  Site site;
  std::atomic<uint32_t> executed{0};
  site.backing().before_write = [&] { CHECK(executed == 0); };
  const auto content = bytes(4096);
  for (const bool streaming : {false, true}) {
    CAPTURE(streaming);
    if (streaming) site.stream();
    executed = 0;
    CHECK(site.device().write(0, 4096, content.data(), {.executed = &executed}) == 0);
    CHECK(executed == 1);
    executed = 0;
    CHECK(site.device().trim(0, 4096, {.executed = &executed}) == 0);
    CHECK(executed == 1);
  }
}

TEST_CASE("captured device: a fence waits for the writes in flight and is not before them") {
  Site site;
  site.stream();
  std::atomic<bool> inside{false}, go{false};
  site.backing().before_write = [&] {
    inside = true;
    while (!go) std::this_thread::sleep_for(1ms);
  };
  std::thread writer([&] {
    const auto content = bytes(4096);
    CHECK(site.device().write(0, 4096, content.data(), {}) == 0);
  });
  while (!inside) std::this_thread::sleep_for(1ms);
  std::atomic<bool> fenced{false};
  uint64_t lsn = 0;
  std::thread fence([&] {
    lsn = site.device().fence();
    fenced = true;
  });
  std::this_thread::sleep_for(30ms);
  CHECK_FALSE(fenced);
  go = true;
  writer.join();
  fence.join();
  CHECK(lsn == 1);
}

TEST_CASE(
    "captured device: an extent is marked on stable storage before its first write reaches the backing") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  constexpr uint64_t kBytes = 4 * kDirtyExtentBytes;
  const DirtyLog::Options options{.path = path, .volume_bytes = kBytes};
  auto opened = DirtyLog::open(options);
  REQUIRE(opened.ok());
  std::shared_ptr<DirtyLog> log(std::move(*opened));
  log->cut();
  log->unmark(1, 1);
  auto group = CaptureGroup::create({.ring_bytes = 64u << 20});
  REQUIRE(group.ok());
  auto memory = std::make_unique<MemoryDevice>(kBytes);
  MemoryDevice* const backing = memory.get();
  std::vector<uint64_t> marked_at_write;
  const std::string seen = directory.path("seen");
  backing->before_write = [&] {
    write_file(seen, read_file(path));
    UnsyncedFile file;
    auto state = DirtyLogFile::open(seen, {.volume_bytes = kBytes}, file);
    REQUIRE(state.ok());
    marked_at_write.push_back(static_cast<uint64_t>((*state)->take_pages()[0].bits[0]));
  };
  CapturedDevice device(std::move(memory), group->get(), 0, log, nullptr, {.poll = 24h});
  const auto block = bytes(8192);
  CHECK(device.write(2 * kDirtyExtentBytes - 4096, 8192, block.data(), {}) == 0);
  CHECK(device.write(kDirtyExtentBytes, 4096, block.data(), {}) == 0);
  CHECK(marked_at_write == std::vector<uint64_t>{0b0110, 0b0110});
  CHECK(device.trim(3 * kDirtyExtentBytes, 4096, {}) == 0);
  CHECK(log->is_marked(3 * kDirtyExtentBytes));
  CHECK_FALSE(log->is_marked(0));

  REQUIRE((*group)->begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = 99}).ok());
  uint64_t lsn = 0;
  CHECK(device.republish(0, 4096, &lsn) == 0);
  CHECK(log->is_marked(0));

  backing->flush_error = EIO;
  CHECK(device.flush() == EIO);
  CHECK(log->has_flush_failed());
}

TEST_CASE("captured device: it grows between two generations, and what was added is in doubt") {
  const ScratchDirectory directory;
  constexpr uint64_t kBefore = 4u << 20;
  constexpr uint64_t kAfter = 12u << 20;
  const std::string path = directory.make_file("backing", kBefore);
  auto opened = FileDevice::open(path, {});
  REQUIRE(opened.ok());
  const std::shared_ptr<BlockDevice> backing = std::move(*opened);
  auto log = DirtyLog::open({.path = directory.path("log"), .volume = Uuid{1}, .volume_bytes = kBefore});
  REQUIRE(log.ok());
  const std::shared_ptr<DirtyLog> marks = std::move(*log);
  auto made = CaptureGroup::create({.ring_bytes = kRingBytesMin, .linger_us = 500});
  REQUIRE(made.ok());
  CaptureGroup& group = **made;
  CapturedDevice device(backing, &group, 0, marks);
  REQUIRE(
      group.begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = UINT64_MAX}).ok());
  REQUIRE(group.start_shipping(0, 0).ok());
  const auto data = bytes(4096);
  REQUIRE(device.write(0, 4096, data.data(), {}) == 0);

  std::filesystem::resize_file(path, kAfter);
  REQUIRE(*backing->remeasure() == kAfter);
  CHECK(device.size() == kBefore);  // the backing's size alone changes nothing
  CHECK(device.write(kBefore, 4096, data.data(), {}) == ENOSPC);
  CHECK(group.mode() == Mode::kStreaming);
  REQUIRE(device.prepare_growth(kAfter).ok());
  CHECK(group.stats().end_reason == std::string("VOLUME_GROWN"));
  CHECK(device.write(kBefore, 4096, data.data(), {}) == ENOSPC);
  device.grow(kAfter);
  CHECK(device.size() == kAfter);
  CHECK(device.write(kAfter - 4096, 4096, data.data(), {}) == 0);  // in no generation
  CHECK(marks->state().extents == 3);
  CHECK(marks->marked() == 3);

  StreamReader reader(group);
  reader.images[0].resize(kBefore);
  while (reader.ends.empty()) REQUIRE(reader.take());
  CHECK(reader.ends[0].last_lsn == 1);
  REQUIRE(
      group.begin_generation({.epoch = 1, .generation = 2, .first_lsn = 2, .lsn_ceiling = UINT64_MAX}).ok());
  CHECK(device.write(kBefore, 4096, data.data(), {}) == 0);
  CHECK(group.position().lsn == 2);

  // A generation that was begun with the old size, before whoever begins them heard of the new one.
  std::filesystem::resize_file(path, 2 * kAfter);
  REQUIRE(*backing->remeasure() == 2 * kAfter);
  REQUIRE(device.prepare_growth(2 * kAfter).ok());
  group.abandon_stream();
  REQUIRE(
      group.begin_generation({.epoch = 1, .generation = 3, .first_lsn = 3, .lsn_ceiling = UINT64_MAX}).ok());
  device.grow(2 * kAfter);
  CHECK(group.mode() == Mode::kTracking);
}

TEST_CASE("captured device: what the receiver has and the backing was flushed after is unmarked by itself") {
  const ScratchDirectory directory;
  constexpr uint64_t kBytes = 4 * kDirtyExtentBytes;
  auto opened = DirtyLog::open({.path = directory.path("log"), .volume_bytes = kBytes});
  REQUIRE(opened.ok());
  std::shared_ptr<DirtyLog> log(std::move(*opened));
  auto group = CaptureGroup::create({.ring_bytes = 64u << 20, .linger_us = 500});
  REQUIRE(group.ok());
  StreamReader reader(**group);
  reader.images[0].resize(kBytes);
  auto memory = std::make_unique<MemoryDevice>(kBytes);
  MemoryDevice* const backing = memory.get();
  CapturedDevice device(std::move(memory), group->get(), 0, log, nullptr,
                        {.poll = 5ms, .flush_patience = 20ms, .idle_cuts = 0});
  REQUIRE((*group)->begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = 99}).ok());
  REQUIRE((*group)->start_shipping(0, 0).ok());
  const auto block = bytes(4096);
  CHECK(device.write(0, 4096, block.data(), {}) == 0);
  log->set_synced(1);
  std::this_thread::sleep_for(100ms);
  CHECK(log->marked() == 4);  // nobody has said that the receiver has the write
  reader.take_until(1);       // and releases it
  for (int i = 0; i < 1000 && log->marked() > 0; ++i) std::this_thread::sleep_for(5ms);
  CHECK(log->marked() == 0);
  CHECK(backing->flushes > 0);  // production never flushed
}
