// Symptom of what must not be: the agent is killed, and what it had captured and not sent is lost, sent twice
// under other numbers, or sent as something else. The ring of a process that ended at any instant goes on.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "device/captured_device.h"
#include "device/file_device.h"
#include "dirty_log_disk.h"
#include "memory_device.h"
#include "ring_fixture.h"
#include "scratch_files.h"

using namespace afterimage;
using namespace std::chrono_literals;
using Mode = CaptureGroup::Mode;

namespace {

const CaptureGroup::Options kOptions = ring_options();

/// As a process that is killed: the destructor tells the ring nothing.
Result<std::unique_ptr<CaptureGroup>> succeed(std::unique_ptr<CaptureGroup> group,
                                              const CaptureGroup::Options& options = kOptions) {
  Fd ring = copy_of_ring(*group);
  group.reset();
  return CaptureGroup::adopt(options, std::move(ring));
}

void publish_writes(CaptureGroup& group, uint64_t first_offset, int count) {
  for (int i = 0; i < count; ++i) {
    const uint64_t offset = first_offset + static_cast<uint64_t>(i) * 4096;
    group.publish({.kind = RecordKind::kWrite, .length = 4096, .offset = offset},
                  content(offset, 4096).data());
  }
}

/// Writable, whatever is sealed.
std::byte* map_ring(const Fd& ring, size_t bytes) {
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.get(), 0);
  REQUIRE(mapping != MAP_FAILED);
  return static_cast<std::byte*>(mapping);
}
constexpr size_t kPage = 4096;

/// Kilobytes of the mappings of rings that a first touch would not fault on.
uint64_t populated_ring_kib() {
  std::ifstream mappings("/proc/self/smaps");
  uint64_t sum = 0;
  bool is_ring = false;
  for (std::string line; std::getline(mappings, line);) {
    if (line.find(':') > line.find(' '))  // the first line of a mapping
      is_ring = line.find("memfd:afterimage-ring") != std::string::npos;
    else if (is_ring && line.rfind("Rss:", 0) == 0)
      sum += std::strtoull(line.c_str() + 4, nullptr, 10);
  }
  return sum;
}

}  // namespace

// Symptom: production waited for the page tables of a ring of 256 MiB at every takeover, a tenth of a second.
TEST_CASE("the memory of an adopted ring is made ready beside production") {
  auto adopted = succeed(streaming_group(kOptions));
  REQUIRE(adopted.ok());
  const uint64_t whole_kib = (kPage + 2 * kOptions.ring_bytes) >> 10;
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (populated_ring_kib() < whole_kib && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(1ms);
  CHECK(populated_ring_kib() == whole_kib);
}

TEST_CASE("a successor goes on at the next LSN, later in time, and ships all that was not confirmed") {
  auto group = streaming_group(kOptions);
  publish_writes(*group, 0, 50);
  {
    StreamReader reader(*group);
    REQUIRE(group->start_shipping(99, 0).ok());
    reader.releases = false;
    reader.rewind(99, 0, 3);
    reader.take_until(149);
    REQUIRE(group->release(120).ok());
  }
  const auto before = group->stats();
  auto adopted = succeed(std::move(group));
  REQUIRE(adopted.ok());
  CaptureGroup& next = **adopted;
  const auto stats = next.stats();
  CHECK(stats.mode == Mode::kStreaming);
  CHECK(stats.generation == 3);
  CHECK(stats.captured_lsn == 149);
  CHECK(stats.released_lsn == 120);
  CHECK(stats.lsn_ceiling == kNoCeiling);
  CHECK(stats.era == before.era);

  // Production first: captured before anybody has spoken to the receiver.
  const auto publication = next.publish({.kind = RecordKind::kWrite, .length = 4096, .offset = 50 * 4096},
                                        content(50 * 4096, 4096).data());
  CHECK(publication.lsn == 150);
  CHECK(publication.time_ns > before.captured_time_ns);

  next.resume_generation(2, kNoCeiling);
  StreamReader reader(next);
  reader.keeps_payload = true;
  // The predecessor was told of 120; the receiver may have more, up to the last one captured.
  REQUIRE(next.start_shipping(130, 7).ok());
  reader.rewind(130, 7, 3);
  reader.take_until(150);
  REQUIRE(reader.records.size() == 20);
  for (const StreamRecord& record : reader.records) {
    CHECK(is_as_written(record));
    CHECK(record.entry.offset / 4096 == record.lsn - 100);
  }
  CHECK(next.stats().ring_used_bytes == 0);
}

TEST_CASE("a successor whose predecessor had everything confirmed goes on at the next LSN") {
  auto group = streaming_group(kOptions);
  const uint64_t time_ns = group->publish({.kind = RecordKind::kFlush}, nullptr).time_ns;
  {
    StreamReader reader(*group);
    reader.rewind(99, 0, 3);
    REQUIRE(group->start_shipping(99, 0).ok());
    reader.take_until(100);
  }
  const auto adopted = succeed(std::move(group));
  REQUIRE(adopted.ok());
  CHECK((*adopted)->stats().captured_lsn == 100);
  const auto publication = (*adopted)->publish({.kind = RecordKind::kFlush}, nullptr);
  CHECK(publication.lsn == 101);
  CHECK(publication.time_ns > time_ns);
}

TEST_CASE("a successor of one that never streamed tracks, and may begin a generation") {
  auto group = CaptureGroup::create(kOptions);
  REQUIRE(group.ok());
  const auto adopted = succeed(std::move(*group));
  REQUIRE(adopted.ok());
  CHECK((*adopted)->stats().mode == Mode::kTracking);
  CHECK((*adopted)->begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = 9}).ok());
}

TEST_CASE("a stream that had ended is shipped by the successor, and then its end with the reason") {
  auto group = streaming_group(kOptions, 109);
  publish_writes(*group, 0, 20);  // ten of them beyond the ceiling
  const auto adopted = succeed(std::move(group));
  REQUIRE(adopted.ok());
  CaptureGroup& next = **adopted;
  CHECK(next.stats().mode == Mode::kTracking);
  CHECK(next.publish({.kind = RecordKind::kFlush}, nullptr).lsn == 0);
  next.resume_generation(2, 200);
  StreamReader reader(next);
  reader.rewind(99, 0, 3);
  REQUIRE(next.start_shipping(99, 0).ok());
  reader.take_until_end();
  CHECK(reader.last_lsn == 109);
  CHECK(reader.ends.at(0).generation == 3);
  CHECK(std::string(reader.ends.at(0).reason) == "LSN_CEILING");
  CHECK(next.begin_generation({.epoch = 2, .generation = 4, .first_lsn = 110, .lsn_ceiling = 200}).ok());
}

TEST_CASE("a successor learns of a clock that was stepped while nobody ran") {
  CaptureGroup::Options options = kOptions;
  ClockReading now = read_clock();
  options.clock = [&] { return now; };
  auto created = CaptureGroup::create(options);
  REQUIRE(created.ok());
  REQUIRE(
      (*created)->begin_generation({.epoch = 1, .generation = 1, .first_lsn = 1, .lsn_ceiling = 99}).ok());
  (*created)->publish({.kind = RecordKind::kFlush}, nullptr);
  (*created)->raise_ceiling(100);  // whatever is remembered after the first stamp
  now.realtime_ns += 3'600'000'000'000;
  now.monotonic_ns += 1'000'000;
  const auto adopted = succeed(std::move(*created), options);
  REQUIRE(adopted.ok());
  CHECK((*adopted)->publish({.kind = RecordKind::kFlush}, nullptr).lsn == 3);  // 2 says so
  CHECK((*adopted)->stats().era == 2);
}

TEST_CASE("a ring that cannot be gone on with is refused, and says why") {
  auto group = streaming_group(kOptions);
  publish_writes(*group, 0, 3);
  const Fd ring = copy_of_ring(*group);
  group.reset();
  std::byte* const mapping = map_ring(ring, kPage + kRingBytesMin);
  auto* const header = reinterpret_cast<RingHeader*>(mapping);
  auto* const second = reinterpret_cast<RingRecord*>(mapping + kPage + sizeof(RingRecord) + 4096);
  CaptureGroup::Options options = kOptions;
  std::string why;
  SUBCASE("of another layout") {
    header->layout_version += 1;
    why = "layout version " + std::to_string(kRingLayoutVersion + 1);
  }
  SUBCASE("no ring at all") {
    header->magic[0] = 'X';
    why = "no ring";
  }
  SUBCASE("a capacity that is not that of its memory") {
    header->capacity += kPage;
    why = "for a capacity of";
  }
  SUBCASE("positions that contradict each other") {
    header->released.store(header->reserved.load() + 64);
    why = "contradict";
  }
  SUBCASE("a record longer than what is reserved") {
    second->total_bytes = 1 << 20;
    why = "is none";
  }
  SUBCASE("a record of no length") {
    second->total_bytes = 0;
    why = "is none";
  }
  SUBCASE("a payload longer than its record") {
    second->length = 8192;
    why = "is none";
  }
  SUBCASE("an LSN that does not follow") {
    second->lsn = 102;
    why = "LSN 102 follows 100";
  }
  SUBCASE("of another member") {
    options = ring_options(0xcc);
    why = "another member";
  }
  SUBCASE("records of another generation than its stream") {
    RingStream stream = header->streams[header->stream_current.load()];
    stream.generation = 4;
    header->streams[header->stream_current.load()] = stream;
    why = "not those of its stream";
  }
  const auto adopted = CaptureGroup::adopt(options, Fd(::fcntl(ring.get(), F_DUPFD_CLOEXEC, 0)));
  REQUIRE_FALSE(adopted.ok());
  CHECK(std::string(adopted.error().code) == "RING_LAYOUT");
  CHECK(adopted.error().message.find(why) != std::string::npos);
  ::munmap(mapping, kPage + kRingBytesMin);
}

TEST_CASE("whatever lies in an inherited ring's head and records, it is refused or read within its bounds") {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    auto group = streaming_group(kOptions);
    publish_writes(*group, 0, 4);
    const Fd ring = copy_of_ring(*group);
    group.reset();
    std::byte* const mapping = map_ring(ring, kPage + kRingBytesMin);
    for (int flips = 0; flips < 1 + round % 4; ++flips) {
      // The head with its two streams, or the head of a record.
      const size_t record = kPage + random() % 4 * (sizeof(RingRecord) + 4096);
      const size_t at =
          random() % 2 == 0 ? random() % sizeof(RingHeader) : record + random() % sizeof(RingRecord);
      mapping[at] ^= static_cast<std::byte>(1u << random() % 8);
    }
    ::munmap(mapping, kPage + kRingBytesMin);
    const auto adopted = CaptureGroup::adopt(kOptions, Fd(::fcntl(ring.get(), F_DUPFD_CLOEXEC, 0)));
    if (!adopted.ok()) {
      CHECK(std::string(adopted.error().code) == "RING_LAYOUT");
    } else {
      CHECK((*adopted)->stats().ring_used_bytes <= kRingBytesMin);
    }
  }
}

TEST_CASE("a process that is killed while it publishes leaves a ring in which nothing is missing or torn") {
  constexpr int kRounds = 12;
  constexpr int kThreads = 4;
  uint64_t voids = 0;
  for (int round = 0; round < kRounds; ++round) {
    auto group = streaming_group(kOptions);
    const Fd ring = copy_of_ring(*group);
    // The child has no pump thread, and needs none.
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::vector<std::thread> writers;
      for (int thread = 0; thread < kThreads; ++thread) {
        writers.emplace_back([&group, thread] {
          for (uint64_t i = 0;; ++i) {
            const uint64_t offset = (i * kThreads + static_cast<uint64_t>(thread)) * 65536;
            const auto bytes = content(offset, 65536);
            group->publish({.kind = RecordKind::kWrite, .length = 65536, .offset = offset}, bytes.data());
          }
        });
      }
      for (;;) ::pause();
    }
    ::usleep(2000 + static_cast<useconds_t>(round) * 1000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    group.reset();

    const auto adopted = CaptureGroup::adopt(kOptions, Fd(::fcntl(ring.get(), F_DUPFD_CLOEXEC, 0)));
    REQUIRE(adopted.ok());
    const auto stats = (*adopted)->stats();
    StreamReader reader(**adopted);
    reader.keeps_payload = true;
    (*adopted)->resume_generation(2, kNoCeiling);
    reader.rewind(99, 0, 3);
    REQUIRE((*adopted)->start_shipping(99, 0).ok());
    if (stats.captured_lsn > 99) reader.take_until(stats.captured_lsn);
    for (const StreamRecord& record : reader.records) {
      if (record.kind() == RecordKind::kVoid) {
        ++voids;
      } else {
        CHECK(is_as_written(record));
      }
    }
    CHECK(reader.records.size() == stats.captured_lsn - 99);
  }
  MESSAGE(voids << " records were reserved and not published in " << kRounds << " kills");
}

namespace {

constexpr uint64_t kVolumeBytes = 8u << 20;

/// Writes, zeroes and trims to `device` from several threads until it is killed.
[[noreturn]] void modify_until_killed(CapturedDevice& device, unsigned seed) {
  std::vector<std::thread> writers;
  for (unsigned thread = 0; thread < 4; ++thread) {
    writers.emplace_back([&device, seed, thread] {
      std::mt19937_64 random(seed * 4 + thread);
      for (;;) {
        const uint64_t length = 512 * (1 + random() % 512);
        const uint64_t offset = random() % ((kVolumeBytes - length) / 512) * 512;
        if (random() % 8 == 0) {
          device.trim(offset, length, {});
        } else {
          device.write(offset, length, content(random(), static_cast<uint32_t>(length)).data(), {});
        }
      }
    });
  }
  for (;;) ::pause();
}

}  // namespace

// Symptom: a client of an NBD export never came back after the agent was killed, and a block that it had been
// writing was on the backing and in no recovery point. Without settle_in_flight() most rounds of this differ.
TEST_CASE("what a killed process was writing is journaled as the backing holds it") {
  constexpr unsigned kRounds = 16;
  // Each child has longer: on a busy machine, under a sanitizer, the first ones do not get to write.
  constexpr unsigned kRoundsMax = 200;
  const ScratchDirectory scratch;
  uint64_t in_flight = 0;
  unsigned round = 0;
  for (; round < kRounds || (in_flight == 0 && round < kRoundsMax); ++round) {
    const std::string path = scratch.make_file("volume-" + std::to_string(round), kVolumeBytes);
    auto backing = FileDevice::open(path, {});
    auto table = InFlightTable::create();
    CaptureGroup::Options options = kOptions;
    options.ring_bytes = 256u << 20;  // more than is written
    auto group = CaptureGroup::create(options);
    REQUIRE((backing.ok() && table.ok() && group.ok()));
    REQUIRE((*group)
                ->begin_generation({.epoch = 1, .generation = 3, .first_lsn = 100, .lsn_ceiling = kNoCeiling})
                .ok());
    Fd ring = copy_of_ring(**group);
    Fd memfd(::fcntl((*table)->memfd(), F_DUPFD_CLOEXEC, 0));
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      CapturedDevice device(std::shared_ptr<BlockDevice>(std::move(*backing)), group->get(), 0, nullptr,
                            std::shared_ptr<InFlightTable>(std::move(*table)));
      modify_until_killed(device, round);
    }
    ::usleep(5000 + round * 1000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    *group = nullptr;

    auto adopted_table = InFlightTable::adopt(std::move(memfd));
    const auto adopted = CaptureGroup::adopt(options, std::move(ring));
    REQUIRE((adopted_table.ok() && adopted.ok()));
    in_flight += (*adopted_table)->left().ranges.size();
    CapturedDevice device(std::shared_ptr<BlockDevice>(std::move(*backing)), adopted->get(), 0, nullptr,
                          std::shared_ptr<InFlightTable>(std::move(*adopted_table)));
    device.settle_in_flight();
    REQUIRE((*adopted)->stats().mode == Mode::kStreaming);
    StreamReader reader(**adopted);
    reader.images[0].resize(kVolumeBytes);
    (*adopted)->resume_generation(2, kNoCeiling);
    reader.rewind(99, 0, 3);
    REQUIRE((*adopted)->start_shipping(99, 0).ok());
    reader.take_until((*adopted)->position().lsn);
    std::vector<std::byte> held(kVolumeBytes);
    REQUIRE(device.read(0, kVolumeBytes, held.data()) == 0);
    CHECK(std::memcmp(held.data(), reader.images[0].data(), kVolumeBytes) == 0);
  }
  MESSAGE(in_flight << " writes were in flight at " << round << " kills");
  CHECK(in_flight > 0);
}

TEST_CASE("writes in flight that the table could not list, or that it lists wrongly, close the stream") {
  auto group = streaming_group(kOptions);
  auto table = InFlightTable::create();
  REQUIRE(table.ok());
  const std::shared_ptr<InFlightTable> shared(std::move(*table));
  std::vector<std::unique_ptr<InFlightTable::Entry>> entries;
  SUBCASE("more than it has room for") {
    for (uint32_t i = 0; i <= kInFlightMax; ++i)
      entries.push_back(std::make_unique<InFlightTable::Entry>(shared.get(), 0, 512));
    CHECK_FALSE(shared->left().is_whole);
  }
  SUBCASE("beyond the end of the volume") {
    entries.push_back(std::make_unique<InFlightTable::Entry>(shared.get(), 0, kVolumeBytes + 512));
  }
  SUBCASE("a range that is none") {
    entries.push_back(std::make_unique<InFlightTable::Entry>(shared.get(), 1024, 512));
  }
  const ScratchDirectory scratch;
  auto backing = FileDevice::open(scratch.make_file("volume", kVolumeBytes), {});
  REQUIRE(backing.ok());
  CapturedDevice device(std::shared_ptr<BlockDevice>(std::move(*backing)), group.get(), 0, nullptr, shared);
  device.settle_in_flight();
  CHECK(group->stats().mode == Mode::kTracking);
  CHECK(shared->left().ranges.empty());
}

namespace {

/// One whose writers have ended, as a successor finds it.
std::shared_ptr<InFlightTable> inherited(const InFlightTable& table) {
  auto adopted = InFlightTable::adopt(Fd(::fcntl(table.memfd(), F_DUPFD_CLOEXEC, 0)));
  REQUIRE(adopted.ok());
  return std::move(*adopted);
}

std::shared_ptr<DirtyLog> dirty_log(const std::string& path) {
  auto log = DirtyLog::open({.path = path, .volume = {1}, .volume_bytes = kVolumeBytes});
  REQUIRE(log.ok());
  return std::move(*log);
}

}  // namespace

// Symptom: the backing failed a flush, the agent was killed, and its successor, whose flush of the backing
// opened anew succeeded, unmarked what the disk had lost: the replica had it, and nobody compared.
TEST_CASE(
    "a flush that failed before the process was killed ends the stream, and what is marked is compared") {
  const ScratchDirectory scratch;
  const auto log = dirty_log(scratch.path("log"));
  auto made = InFlightTable::create();
  REQUIRE(made.ok());
  const std::shared_ptr<InFlightTable> table(std::move(*made));
  const auto backing = std::make_shared<MemoryDevice>(kVolumeBytes);
  const auto bytes = content(1, 4096);
  bool was_lost = true;
  auto group = streaming_group(kOptions);
  {
    CapturedDevice device(backing, group.get(), 0, log, table, {.poll = 24h});
    SUBCASE("production's") {
      backing->flush_error = EIO;
      CHECK(device.flush() == EIO);
    }
    SUBCASE("that of the log's cleaner") {
      backing->flush_error = EIO;
      log->set_synced(3);
      device.clean_up();
    }
    SUBCASE("a durable write, of which only the write succeeds") {
      backing->write_error = EIO;
      backing->lost_writes = true;
      CHECK(device.write(0, bytes.size(), bytes.data(), {.fua = true}) == EIO);
    }
    SUBCASE("none: a write alone puts nothing in doubt") {
      backing->write_error = EIO;
      CHECK(device.write(0, bytes.size(), bytes.data(), {}) == EIO);
      was_lost = false;
    }
  }
  CHECK(log->state().flush_failed == was_lost);
  const auto adopted = succeed(std::move(group));
  REQUIRE(adopted.ok());
  for (int successor = 1; successor <= 2; ++successor) {
    const auto reopened = std::make_shared<MemoryDevice>(kVolumeBytes);
    CapturedDevice device(reopened, adopted->get(), 0, nullptr, inherited(*table), {.poll = 24h});
    device.settle_in_flight();
    CHECK((*adopted)->stats().mode == (was_lost ? Mode::kTracking : Mode::kStreaming));
    // A second one finds nothing: the stream has ended, which its ring says.
    CHECK(reopened->forgotten == (was_lost && successor == 1));
  }
}

// Symptom: the disk of the state directory took neither marks nor an end of the dirty log; the agent was
// killed, and its successor believed the file, which lacked the marks.
TEST_CASE("a dirty log whose file could not be made void is not believed by a successor") {
  ReadOnlyFile file;
  const ScratchDirectory scratch;
  const std::string path = scratch.path("log"), kept = scratch.path("kept");
  auto made = InFlightTable::create();
  REQUIRE(made.ok());
  const std::shared_ptr<InFlightTable> table(std::move(*made));
  auto group = streaming_group(kOptions);
  const auto backing = std::make_shared<MemoryDevice>(kVolumeBytes);
  {
    auto opened = DirtyLog::open({.path = path, .volume = {1}, .volume_bytes = kVolumeBytes, .file = &file});
    REQUIRE(opened.ok());
    const std::shared_ptr<DirtyLog> log(std::move(*opened));
    log->cut();
    log->unmark(3, 100);
    CHECK(log->marked() == 0);
    CapturedDevice device(backing, group.get(), 0, log, table, {.poll = 24h});
    take_no_changes(path, kept, file);
    const auto bytes = content(1, 4096);
    CHECK(device.write(0, bytes.size(), bytes.data(), {}) == 0);
    CHECK(log->is_void());
    CHECK(log->state().is_stale);
  }
  restore_names(path, kept);
  // By this name nobody in the process remembers it, as in another process.
  const auto log = dirty_log(scratch.path("./log"));
  const uint64_t id_before = log->state().id;
  CHECK(log->marked() == 0);  // what is written there lacks the mark
  CapturedDevice device(backing, group.get(), 0, log, inherited(*table), {.poll = 24h});
  device.settle_in_flight();
  CHECK(log->marked() == log->state().extents);
  CHECK(log->state().id != id_before);
  CHECK_FALSE(log->state().distrust.empty());
  CHECK_FALSE(table->has(InFlightTable::kLogStale));
  CHECK((*group).stats().mode == Mode::kStreaming);  // the stream lacks nothing
  const auto found = DirtyLogFile::open(path, {Uuid{1}, kVolumeBytes}, JournalFile::system());
  REQUIRE(found.ok());
  CHECK((*found)->id() == log->state().id);
}

TEST_CASE("a table of writes in flight of the version before is read, and is of this one then") {
  auto table = InFlightTable::create();
  REQUIRE(table.ok());
  void* const mapping = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, (*table)->memfd(), 0);
  REQUIRE(mapping != MAP_FAILED);
  uint32_t& version = static_cast<uint32_t*>(mapping)[2];
  version = kInFlightLayoutVersionMin;
  const auto adopted = inherited(**table);
  CHECK(version == kInFlightLayoutVersion);
  CHECK_FALSE(adopted->has(InFlightTable::kBackingLostWrites));
  version = kInFlightLayoutVersionMin - 1;
  CHECK_FALSE(InFlightTable::adopt(Fd(::fcntl((*table)->memfd(), F_DUPFD_CLOEXEC, 0))).ok());
  ::munmap(mapping, kPage);
}

TEST_CASE("a table of writes in flight of another layout is refused") {
  auto table = InFlightTable::create();
  REQUIRE(table.ok());
  Fd memfd(::fcntl((*table)->memfd(), F_DUPFD_CLOEXEC, 0));
  void* const mapping = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  REQUIRE(mapping != MAP_FAILED);
  static_cast<uint32_t*>(mapping)[2] += 1;
  ::munmap(mapping, kPage);
  const auto adopted = InFlightTable::adopt(std::move(memfd));
  REQUIRE_FALSE(adopted.ok());
  CHECK(std::string(adopted.error().code) == "RING_LAYOUT");
  CHECK_FALSE(InFlightTable::adopt(Fd(::memfd_create("other", MFD_CLOEXEC))).ok());
}
