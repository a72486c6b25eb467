// Symptom of what must not be: the receiver is away for longer than the ring lasts, and what was spooled
// meanwhile is lost, repeated or taken from somebody else's file, or a disk that is full or fails costs more
// than history.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "capture/capture_group.h"
#include "capture/spool_directory.h"
#include "ring_fixture.h"
#include "scratch_files.h"

using namespace afterimage;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Mode = CaptureGroup::Mode;

namespace {

constexpr uint64_t kMiB = 1u << 20;

CaptureGroup::Options options_of(const std::string& directory, uint64_t spool_bytes = 1024 * kMiB) {
  CaptureGroup::Options options = ring_options();
  options.spool = {.directory = directory, .bytes_max = spool_bytes, .headroom_bytes = 0};
  return options;
}

/// Publishes a write of a length of its own. 0: the stream is closed.
uint64_t publish_one(CaptureGroup& group, uint64_t number) {
  const auto length = static_cast<uint32_t>(512 * (1 + number * 37 % 400));
  const auto bytes = content(number * 512, length);
  return group.publish({.kind = RecordKind::kWrite, .length = length, .offset = number * 512}, bytes.data())
      .lsn;
}

/// As production that gives the spooler time, while there is any use in that.
template <typename Group>
void await_room(Group& group) {
  for (;;) {
    const auto stats = group.stats();
    if (stats.mode != Mode::kStreaming || stats.spool.fault != nullptr) return;
    if (stats.ring_used_bytes <= kRingBytesMin * 3 / 4) return;
    std::this_thread::sleep_for(200us);
  }
}

/// The last LSN of what was published.
uint64_t publish_bytes(CaptureGroup& group, uint64_t bytes) {
  static std::atomic<uint64_t> number{0};
  const uint64_t begin = group.stats().raw_bytes;
  uint64_t lsn = 0;
  while (group.stats().raw_bytes - begin < bytes) {
    await_room(group);
    lsn = publish_one(group, number++);
    if (lsn == 0) break;
  }
  return group.position().lsn;
}

std::vector<fs::path> files_of(const std::string& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// As a process that is killed: the destructor tells neither ring nor spool anything.
Fd die(std::unique_ptr<CaptureGroup> group) { return copy_of_ring(*group); }

void check_all(CaptureGroup& group, uint64_t after_lsn, uint64_t last_lsn) {
  StreamReader reader(group);
  reader.keeps_payload = true;
  reader.rewind(after_lsn, 0, 3);
  REQUIRE(group.start_shipping(after_lsn, 0).ok());
  reader.take_until(last_lsn);
  CHECK(reader.records.size() == last_lsn - after_lsn);
  CHECK(reader.records.front().lsn == after_lsn + 1);
  CHECK(std::all_of(reader.records.begin(), reader.records.end(), is_as_written));
  CHECK(reader.ends.empty());
}

void flip_byte(const fs::path& path, uint64_t offset) {
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  char byte = 0;
  REQUIRE(::pread(fd.get(), &byte, 1, static_cast<off_t>(offset)) == 1);
  byte = static_cast<char>(byte ^ 0x10);
  REQUIRE(::pwrite(fd.get(), &byte, 1, static_cast<off_t>(offset)) == 1);
}

template <typename Condition>
bool comes_true(Condition condition) {
  const auto patience = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > patience) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

}  // namespace

TEST_CASE("spool: what the ring has no room for is shipped in the same stream, and its files go") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("a/b");
  const auto group = streaming_group(options_of(directory));
  const uint64_t last = publish_bytes(*group, 5 * kRingBytesMin);
  auto stats = group->stats();
  REQUIRE(stats.mode == Mode::kStreaming);
  CHECK(stats.spool_used_bytes > 4 * kRingBytesMin);
  CHECK(stats.spool_used_bytes + stats.ring_used_bytes >= stats.raw_bytes);
  CHECK(stats.oldest_time_ns > 0);
  CHECK(stats.oldest_time_ns < stats.captured_time_ns);
  CHECK(group->is_crowded());

  // More than once, as after a connection that was lost, and from the middle of a file.
  StreamReader reader(*group);
  reader.releases = false;
  REQUIRE(group->start_shipping(99, 0).ok());
  reader.rewind(99, 0, 3);
  reader.take_until(300);
  for (const uint64_t after : {100ul, 150ul, reader.last_lsn, reader.last_lsn - 1}) {
    REQUIRE(group->start_shipping(after, 0x77).ok());
    reader.rewind(after, 0x77, 3);
    reader.take_until(std::min(last, after + 40));
  }
  check_all(*group, 120, last);
  CHECK(comes_true([&] { return files_of(directory).empty(); }));
  stats = group->stats();
  CHECK(stats.spool_used_bytes == 0);
  CHECK(stats.ring_used_bytes == 0);
  CHECK(stats.spool.fault == nullptr);
  CHECK_FALSE(group->is_crowded());

  const uint64_t next = publish_bytes(*group, 3 * kRingBytesMin);
  check_all(*group, last, next);
}

TEST_CASE("spool: a full one ends the stream, which is shipped to its end, and the next is spooled again") {
  const ScratchDirectory scratch;
  const auto group = streaming_group(options_of(scratch.path("spool"), kSpoolBytesMin));
  const uint64_t last = publish_bytes(*group, 10 * kSpoolBytesMin);
  auto stats = group->stats();
  REQUIRE(stats.mode == Mode::kTracking);
  CHECK(std::string(stats.end_reason) == "SPOOL_FULL");
  CHECK(std::string(stats.spool.fault) == "SPOOL_FULL");
  CHECK(stats.raw_bytes > kSpoolBytesMin);
  uint64_t bytes_on_disk = 0;
  for (const fs::path& path : files_of(scratch.path("spool"))) bytes_on_disk += fs::file_size(path);
  CHECK(bytes_on_disk <= kSpoolBytesMin);

  {
    StreamReader reader(*group);
    reader.keeps_payload = true;
    reader.rewind(99, 0, 3);
    REQUIRE(group->start_shipping(99, 0).ok());
    reader.take_until_end();
    CHECK(reader.last_lsn == last);
    CHECK(std::string(reader.ends.back().reason) == "SPOOL_FULL");
    CHECK(std::all_of(reader.records.begin(), reader.records.end(), is_as_written));
  }
  CHECK(comes_true([&] { return group->stats().spool.fault == nullptr; }));
  const CaptureGroup::Generation next{
      .epoch = 1, .generation = 4, .first_lsn = last + 50, .lsn_ceiling = kNoCeiling};
  REQUIRE(group->begin_generation(next).ok());
  const uint64_t later = publish_bytes(*group, 2 * kRingBytesMin);
  CHECK(group->stats().spool_used_bytes > 0);
  StreamReader reader(*group);
  reader.rewind(last + 49, 0, 4);
  REQUIRE(group->start_shipping(last + 49, 0).ok());
  reader.take_until(later);
}

TEST_CASE("spool: a generation's end comes in its place, also when it and what follows are spooled") {
  const ScratchDirectory scratch;
  const auto group = streaming_group(options_of(scratch.path("spool")));
  StreamReader reader(*group);
  reader.releases = false;
  reader.keeps_payload = true;
  reader.rewind(99, 0, 3);
  const uint64_t first = publish_bytes(*group, 3 * kRingBytesMin);
  group->close_stream("CLOSED");
  REQUIRE(group->start_shipping(99, 0).ok());
  reader.take_until_end();
  const CaptureGroup::Generation next{
      .epoch = 1, .generation = 4, .first_lsn = first + 50, .lsn_ceiling = kNoCeiling};
  REQUIRE(group->begin_generation(next).ok());
  group->stop_shipping();
  const uint64_t last = publish_bytes(*group, 3 * kRingBytesMin);

  for (const uint64_t after : {first - 1, first, first + 49}) {
    reader.ends.clear();
    reader.rewind(after, 0, after <= first ? 3 : 4);
    REQUIRE(group->start_shipping(after, 0).ok());
    reader.take_until(last);
    CHECK(reader.ends.size() == (after < first ? 1 : 0));
  }
  CHECK(std::all_of(reader.records.begin(), reader.records.end(), is_as_written));
}

namespace {

/// Ships a stream from its beginning until LSN `lsn` was taken; returns the last LSN that was.
uint64_t shipped_until(CaptureGroup& group, uint64_t lsn) {
  StreamReader reader(group);
  reader.rewind(99, 0, 3);
  REQUIRE(group.start_shipping(99, 0).ok());
  reader.take_until(lsn);
  group.stop_shipping();
  return reader.last_lsn;
}

}  // namespace

TEST_CASE("spool: a successor goes on with ring and spool, and with nothing that is not theirs") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  const CaptureGroup::Options options = options_of(directory);
  auto group = streaming_group(options);
  uint64_t last = publish_bytes(*group, 6 * kRingBytesMin);
  uint64_t confirmed = 99;
  SUBCASE("nothing was confirmed") {}
  SUBCASE("some of it was") { confirmed = shipped_until(*group, 250); }
  Fd ring = die(std::move(group));
  const fs::path mine = files_of(directory).front();

  // Of another member, of a ring before this one, of a file that was never finished, of nobody.
  CaptureGroup::Options other = options_of(scratch.path("other"));
  SUBCASE("beside the files of another member") { other.member.fill(0xcc); }
  SUBCASE("beside the files of another group") { other.group.fill(0xcc); }
  SUBCASE("beside those of an earlier ring") {}
  auto another = streaming_group(other);
  publish_bytes(*another, 2 * kRingBytesMin);
  const fs::path theirs = files_of(other.spool.directory).front();
  const fs::path guest = fs::path(directory) / theirs.filename();
  fs::copy_file(theirs, guest);
  another.reset();
  const fs::path nobodys = fs::path(directory) / "note.spool";
  std::ofstream(nobodys) << "AFTSPOOL, or so it seems";
  std::ofstream(mine.string() + ".tmp") << "begun";

  auto adopted = CaptureGroup::adopt(options, std::move(ring));
  REQUIRE(adopted.ok());
  auto stats = (*adopted)->stats();
  CHECK(stats.mode == Mode::kStreaming);
  CHECK(stats.captured_lsn == last);
  CHECK(stats.spool_used_bytes > 0);
  CHECK(comes_true([&] { return !(*adopted)->stats().spool.foreign.empty(); }));
  stats = (*adopted)->stats();
  const bool is_stale = other.group == options.group && other.member == options.member;
  CHECK((stats.spool.foreign.find(guest.string()) != std::string::npos) == !is_stale);
  CHECK(stats.spool.foreign.find(nobodys.string()) != std::string::npos);
  (*adopted)->resume_generation(2, kNoCeiling);
  last = publish_bytes(**adopted, 2 * kRingBytesMin);
  check_all(**adopted, confirmed, last);
  CHECK(comes_true([&] { return files_of(directory).size() == (is_stale ? 1 : 2); }));
  CHECK(fs::exists(nobodys));
}

TEST_CASE("spool: what cannot be gone on with is told by name where it is missed, and can be abandoned") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  const CaptureGroup::Options options = options_of(directory, 64 * kMiB);
  auto dead = streaming_group(options);
  publish_bytes(*dead, 5 * kRingBytesMin);
  Fd ring = die(std::move(dead));
  const auto files = files_of(directory);
  REQUIRE(files.size() > 3);
  bool has_guest = false;
  SUBCASE("the first file is gone") { fs::remove(files.front()); }
  SUBCASE("one in the middle is gone") { fs::remove(files[2]); }
  SUBCASE("the last file is gone") { fs::remove(files.back()); }
  SUBCASE("the last file is cut off") { fs::resize_file(files.back(), 150); }
  SUBCASE("the header of one is damaged") {
    flip_byte(files[1], 60);
    has_guest = true;
  }
  SUBCASE("a file is somebody else's under our name") {
    CaptureGroup::Options other = options_of(scratch.path("other"), 64 * kMiB);
    other.member.fill(0xcc);
    auto another = streaming_group(other);
    publish_bytes(*another, 2 * kRingBytesMin);
    fs::copy_file(files_of(other.spool.directory).front(), files.front(),
                  fs::copy_options::overwrite_existing);
    has_guest = true;
  }
  const auto adopted = CaptureGroup::adopt(options, std::move(ring));
  REQUIRE(adopted.ok());
  CaptureGroup& group = **adopted;
  group.resume_generation(2, kNoCeiling);
  StreamReader reader(group);
  for (size_t attempt = 1; attempt <= 2; ++attempt) {
    REQUIRE(group.start_shipping(99, 0).ok());
    while (reader.losses.size() < attempt) REQUIRE(reader.take());
    CHECK(std::string(reader.losses.back().code) == "SPOOL_CORRUPT");
    CHECK(reader.records.empty());
  }
  // Meanwhile production goes on, until the ring is full, and spools nothing behind a gap.
  CHECK(group.stats().mode == Mode::kStreaming);
  const auto before = files_of(directory);
  while (publish_one(group, 7) != 0) continue;
  CHECK(files_of(directory) == before);
  group.abandon_stream();
  CHECK(group.stats().spool_used_bytes == 0);
  CHECK(comes_true([&] { return files_of(directory).size() == (has_guest ? 1 : 0); }));
  CHECK(comes_true([&] { return (group.stats().spool.foreign != "") == has_guest; }));
  const uint64_t used = group.stats().captured_lsn;
  REQUIRE(
      group.begin_generation({.epoch = 2, .generation = 4, .first_lsn = used + 1, .lsn_ceiling = kNoCeiling})
          .ok());
  const uint64_t last = publish_bytes(group, 2 * kRingBytesMin);
  reader.rewind(used, 0, 4);
  REQUIRE(group.start_shipping(used, 0).ok());
  reader.take_until(last);
}

TEST_CASE("spool: a ring of which part was spooled is refused where there is no spool any more") {
  const ScratchDirectory scratch;
  CaptureGroup::Options options = options_of(scratch.path("spool"));
  auto group = streaming_group(options);
  publish_bytes(*group, 2 * kRingBytesMin);
  Fd ring = die(std::move(group));
  options.spool.bytes_max = 0;
  const auto adopted = CaptureGroup::adopt(options, std::move(ring));
  REQUIRE_FALSE(adopted.ok());
  CHECK(std::string(adopted.error().code) == "SPOOL_CORRUPT");
}

namespace {

/// A directory on a disk that does not answer whoever looks at what is in it, until answer().
class SilentDirectory {
 public:
  explicit SilentDirectory(const std::string& path)
      : asked_(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC)) {
    fs::create_directories(path);
    if (!asked_ ||
        ::fanotify_mark(asked_.get(), FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR, AT_FDCWD, path.c_str()) != 0) {
      MESSAGE("skipped: needs CAP_SYS_ADMIN, and a kernel with fanotify's permission events");
      return;
    }
    is_silent_ = is_possible_ = true;
    // A test that fails is to fail, and not to hang.
    guard_ = std::thread([this] {
      for (int i = 0; i < 4000 && !is_over_; ++i) std::this_thread::sleep_for(5ms);
      is_silent_ = false;
      asked_.reset();
    });
  }
  ~SilentDirectory() { answer(); }
  bool is_possible() const { return is_possible_; }
  bool is_silent() const { return is_silent_; }
  void answer() {
    is_over_ = true;
    if (guard_.joinable()) guard_.join();
  }

 private:
  Fd asked_;
  bool is_possible_ = false;
  std::atomic<bool> is_silent_{false};
  std::atomic<bool> is_over_{false};
  std::thread guard_;
};

}  // namespace

// Symptom: an agent was killed, its spool's disk did not answer, and nobody's production was served, even
// with nothing spooled. Cause: the directory was looked at before the group was there, on the thread that
// takes all over. If it returns, the group is there only when the disk has answered.
TEST_CASE("spool: production is captured before a disk that hangs has shown what was spooled") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  const CaptureGroup::Options options = options_of(directory);
  SUBCASE("there is no ring") {
    SilentDirectory disk(directory);
    if (!disk.is_possible()) return;
    auto group = streaming_group(options);
    CHECK(disk.is_silent());
    const uint64_t last = publish_bytes(*group, 2 * kMiB);
    check_all(*group, 99, last);
    CHECK(comes_true([&] { return group->stats().spool.fault != nullptr; }));
    CHECK(std::string(group->stats().spool.fault) == "SPOOL_IO");
    CHECK(disk.is_silent());
    disk.answer();
    CHECK(comes_true([&] { return group->stats().spool.fault == nullptr; }));
    return;
  }
  auto group = streaming_group(options);
  uint64_t last = publish_bytes(*group, 3 * kRingBytesMin);
  uint64_t confirmed = 99;
  SUBCASE("nothing was confirmed") {}
  SUBCASE("some of it was") { confirmed = shipped_until(*group, 150); }
  SUBCASE("the receiver has more than this host knows") { confirmed = last; }
  Fd ring = die(std::move(group));
  SilentDirectory disk(directory);
  if (!disk.is_possible()) return;
  auto adopted = CaptureGroup::adopt(options, std::move(ring));
  REQUIRE(adopted.ok());
  CHECK(disk.is_silent());
  CHECK((*adopted)->stats().spool_used_bytes > 0);
  (*adopted)->resume_generation(2, kNoCeiling);
  for (int i = 0; i < 20; ++i) last = publish_one(**adopted, 1'000'000 + i);
  CHECK(last > 0);
  if (confirmed == last - 20) {
    check_all(**adopted, confirmed, last);  // nothing that is needed lies there
    CHECK((*adopted)->stats().spool_used_bytes == 0);
    CHECK(disk.is_silent());
    disk.answer();
  } else {
    REQUIRE((*adopted)->start_shipping(confirmed, 0).ok());
    REQUIRE((*adopted)->release(confirmed).ok());
    CHECK_FALSE((*adopted)->next());
    CHECK(disk.is_silent());
    disk.answer();
    StreamReader reader(**adopted);
    reader.keeps_payload = true;
    reader.rewind(confirmed, 0, 3);
    reader.take_until(last);
    CHECK(reader.records.size() == last - confirmed);
    CHECK(std::all_of(reader.records.begin(), reader.records.end(), is_as_written));
  }
  CHECK(comes_true([&] { return files_of(directory).empty(); }));
}

TEST_CASE("spool: what is awaited of a disk that hangs can be given up, and goes when it is found") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  const CaptureGroup::Options options = options_of(directory);
  auto group = streaming_group(options);
  publish_bytes(*group, 3 * kRingBytesMin);
  Fd ring = die(std::move(group));
  SilentDirectory disk(directory);
  if (!disk.is_possible()) return;
  auto adopted = CaptureGroup::adopt(options, std::move(ring));
  REQUIRE(adopted.ok());
  REQUIRE((*adopted)->start_shipping(99, 0).ok());
  (*adopted)->abandon_stream();
  const uint64_t used = (*adopted)->stats().captured_lsn;
  REQUIRE(
      (*adopted)
          ->begin_generation({.epoch = 2, .generation = 4, .first_lsn = used + 1, .lsn_ceiling = kNoCeiling})
          .ok());
  const uint64_t last = publish_bytes(**adopted, 2 * kMiB);
  StreamReader reader(**adopted);
  reader.rewind(used, 0, 4);
  REQUIRE((*adopted)->start_shipping(used, 0).ok());
  reader.take_until(last);
  CHECK(disk.is_silent());
  disk.answer();
  CHECK(comes_true([&] { return files_of(directory).empty(); }));
}

// Symptom: after each power loss some files of the spool stayed for good, and each start named them as
// somebody else's. Cause: files that were not synced hold nothing where their headers belong, and such a file
// is no spool file. If it returns, they are still there.
TEST_CASE("spool: what power loss has left of its files is removed") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  fs::create_directories(directory);
  std::ofstream(directory + "/empty.spool");
  std::ofstream(directory + "/short.spool") << std::string(100, '\0');
  std::ofstream(directory + "/zeroes.spool") << std::string(4096, '\0');
  const auto group = streaming_group(options_of(directory));
  CHECK(comes_true([&] { return files_of(directory).empty(); }));
  CHECK(group->stats().spool.foreign.empty());
}

TEST_CASE("spool: a new ring removes what an earlier process had spooled") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  auto before = streaming_group(options_of(directory));
  publish_bytes(*before, 2 * kRingBytesMin);
  before.reset();
  REQUIRE_FALSE(files_of(directory).empty());
  const auto group = streaming_group(options_of(directory));
  CHECK(comes_true([&] { return files_of(directory).empty(); }));
  CHECK(group->stats().spool.foreign.empty());
  publish_bytes(*group, 2 * kRingBytesMin);
  CHECK_FALSE(files_of(directory).empty());
  group->close();
  CHECK(files_of(directory).empty());
}

// A process under a sanitizer gets as far in so many times the time.
#if defined(__SANITIZE_THREAD__)
constexpr useconds_t kSlowness = 16;
#elif defined(__SANITIZE_ADDRESS__)
constexpr useconds_t kSlowness = 4;
#else
constexpr useconds_t kSlowness = 1;
#endif

// At any instant: between a batch's write and its hand-over, between that and the release of the ring, while
// a file is made.
TEST_CASE("spool: a process that is killed loses nothing of what it had spooled") {
  constexpr int kRounds = 24;
  const ScratchDirectory scratch;
  uint64_t spooled = 0;
  for (int round = 0; round < kRounds; ++round) {
    const CaptureGroup::Options options =
        options_of(scratch.path("spool-" + std::to_string(round)), 256 * kMiB);
    const Fd ring = die(streaming_group(options));
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto group = CaptureGroup::adopt(options, Fd(::fcntl(ring.get(), F_DUPFD_CLOEXEC, 0)));
      if (!group.ok()) ::_exit(1);
      std::vector<std::thread> writers;
      for (uint64_t thread = 0; thread < 3; ++thread) {
        writers.emplace_back([&, thread] {
          for (uint64_t i = 0;; ++i) {
            await_room(**group);
            publish_one(**group, i * 3 + thread);
          }
        });
      }
      for (;;) ::pause();
    }
    ::usleep(kSlowness * (20'000 + static_cast<useconds_t>(round) * 2'500));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));

    const auto adopted = CaptureGroup::adopt(options, Fd(::fcntl(ring.get(), F_DUPFD_CLOEXEC, 0)));
    REQUIRE_MESSAGE(adopted.ok(), (adopted.ok() ? "" : adopted.error().message));
    const auto stats = (*adopted)->stats();
    spooled += stats.spool_used_bytes;
    StreamReader reader(**adopted);
    reader.keeps_payload = true;
    (*adopted)->resume_generation(2, kNoCeiling);
    reader.rewind(99, 0, 3);
    REQUIRE((*adopted)->start_shipping(99, 0).ok());
    if (stats.captured_lsn > 99) reader.take_until(stats.captured_lsn);
    CHECK(reader.records.size() == stats.captured_lsn - 99);
    for (const StreamRecord& record : reader.records)
      if (record.kind() != RecordKind::kVoid) REQUIRE(is_as_written(record));
  }
  MESSAGE((spooled / kMiB) << " MiB were spooled at " << kRounds << " kills");
  CHECK(spooled > 0);
}

TEST_CASE("spool: damage met later ends what is delivered there, and the stream can be abandoned") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  const auto group = streaming_group(options_of(directory, 64 * kMiB));
  publish_bytes(*group, 5 * kRingBytesMin);
  const auto files = files_of(directory);
  flip_byte(files[2], 1'000'000);
  StreamReader reader(*group);
  reader.keeps_payload = true;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const uint64_t after = std::max<uint64_t>(reader.last_lsn, 99);
    reader.rewind(after, 0, 3);
    REQUIRE(group->start_shipping(after, 0).ok());
    while (reader.losses.size() == static_cast<size_t>(attempt)) REQUIRE(reader.take());
    CHECK(std::string(reader.losses.back().code) == "SPOOL_CORRUPT");
    CHECK(reader.losses.back().message.find(files[2].string()) != std::string::npos);
  }
  CHECK(reader.last_lsn > 99);
  CHECK(std::all_of(reader.records.begin(), reader.records.end(), is_as_written));
  CHECK(group->stats().mode == Mode::kStreaming);  // until somebody abandons it
  group->abandon_stream();
  CHECK(group->stats().spool_used_bytes == 0);
  const uint64_t used = group->stats().captured_lsn;
  const CaptureGroup::Generation next{
      .epoch = 1, .generation = 4, .first_lsn = used + 1, .lsn_ceiling = kNoCeiling};
  REQUIRE(group->begin_generation(next).ok());
  const uint64_t last = publish_bytes(*group, 2 * kRingBytesMin);
  reader.rewind(used, 0, 4);
  REQUIRE(group->start_shipping(used, 0).ok());
  reader.take_until(last);
}

TEST_CASE("spool: a disk that is full has a name, and room on it is used again") {
  const ScratchDirectory scratch;
  const SmallFileSystem disk(scratch.path("disk"), 40 * kMiB);
  if (!disk.mounted()) return;
  const std::string ballast = disk.path() + "/ballast";
  CaptureGroup::Options options = options_of(disk.path() + "/spool", 512 * kMiB);
  SUBCASE("to the last byte") {}
  SUBCASE("but for what is never taken") { options.spool.headroom_bytes = 4 * kMiB; }
  {
    const Fd fd(::open(ballast.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    REQUIRE(::fallocate(fd.get(), 0, 0, 20 * kMiB) == 0);
  }
  const auto group = streaming_group(options);
  const uint64_t full = publish_bytes(*group, 6 * kMiB);
  CHECK(comes_true([&] { return group->stats().spool.fault != nullptr; }));
  CHECK(std::string(group->stats().spool.fault) == "SPOOL_FULL");
  CHECK(group->stats().mode == Mode::kStreaming);
  CHECK(group->position().lsn == full);
  REQUIRE(fs::remove(ballast));
  CHECK(comes_true([&] { return group->stats().spool.fault == nullptr; }));
  check_all(*group, 99, full);
}

TEST_CASE("spool: a directory that cannot be had costs the spool, and nothing else") {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path("spool");
  std::ofstream(directory) << "a file";
  const auto group = streaming_group(options_of(directory));
  CHECK(comes_true([&] { return group->stats().spool.fault != nullptr; }));
  CHECK(std::string(group->stats().spool.fault) == "SPOOL_IO");
  const uint64_t last = publish_bytes(*group, 5 * kMiB);
  CHECK(group->stats().mode == Mode::kStreaming);
  check_all(*group, 99, last);
  publish_bytes(*group, 5 * kMiB);
  fs::remove(directory);
  CHECK(comes_true([&] { return group->stats().spool.fault == nullptr; }));
  CHECK(comes_true([&] { return group->stats().spool_used_bytes > 0; }));
}

TEST_CASE("spool: a file that ends anywhere, or has any byte changed, is read up to there and no further") {
  const ScratchDirectory scratch;
  const std::string path = scratch.path("one.spool");
  const SpoolOwner owner{.group = {1}, .member = {2}, .ring = 3};
  auto ring = CaptureRing::create(kRingBytesMin);
  REQUIRE(ring.ok());
  Backlog backlog(ring->get());
  const std::unique_ptr<std::byte, decltype(&std::free)> bytes(
      static_cast<std::byte*>(std::aligned_alloc(64, sizeof(SpoolBatchHeader) + kSpoolBatchBytesMax)),
      &std::free);
  std::optional<SpoolFileWriter> writer;
  std::vector<uint64_t> ends;  // of the batches, in the file
  SpooledFile file{.path = path, .generation = 1, .position = 0};
  uint64_t lsn = 0;
  for (int number = 0; number < 3; ++number) {
    for (int i = 0; i < 4; ++i) {
      RingRecord* const record = (*ring)->reserve(512);
      static_cast<RingHead&>(*record) = {.lsn = ++lsn,
                                         .time_ns = lsn,
                                         .generation = 1,
                                         .length = 512,
                                         .era = 1,
                                         .kind = static_cast<uint8_t>(RecordKind::kWrite)};
      std::memset(record->payload(), static_cast<int>(lsn), 512);
      CaptureRing::publish(record);
    }
    const auto batch = backlog.copy_oldest(bytes.get());
    REQUIRE(batch);
    if (!writer) {
      auto made = SpoolFileWriter::create(path, owner, *batch, 8192, 0);
      REQUIRE(made.ok());
      writer = std::move(*made);
    }
    REQUIRE(writer->fits(*batch));
    REQUIRE(writer->write(*batch).ok());
    writer->accept(*batch);
    REQUIRE(backlog.hand_over(*batch, path, number == 0));
    ends.push_back((ends.empty() ? sizeof(SpoolFileHeader) : ends.back()) + batch->file_bytes());
    file.end = batch->end;
  }
  const auto readable = [&](const SpooledFile& from) {
    SpoolFileReader reader(owner);
    uint64_t position = 0, count = 0;
    while (position < from.end) {
      const auto record = reader.at(from, position);
      if (!record.ok()) {
        CHECK(std::string(record.error().code) == "SPOOL_CORRUPT");
        break;
      }
      CHECK((*record)->lsn == ++count);
      CHECK((*record)->payload()[511] == static_cast<std::byte>(count));
      position += (*record)->total_bytes;
    }
    return count;
  };
  CHECK(readable(file) == 12);
  const auto batches_before = [&](uint64_t offset) {
    return static_cast<uint64_t>(
        std::count_if(ends.begin(), ends.end(), [&](uint64_t end) { return end <= offset; }));
  };
  SpooledFile copy = file;
  copy.path = scratch.path("copy.spool");
  const uint64_t stride = 29;
  for (uint64_t length = sizeof(SpoolFileHeader); length < ends.back(); length += stride) {
    fs::copy_file(path, copy.path, fs::copy_options::overwrite_existing);
    fs::resize_file(copy.path, length);
    REQUIRE(readable(copy) == 4 * batches_before(length));
    fs::resize_file(copy.path, 8192);  // what follows reads as zero
    REQUIRE(readable(copy) >= 4 * batches_before(length));
    fs::copy_file(path, copy.path, fs::copy_options::overwrite_existing);
    flip_byte(copy.path, length);
    REQUIRE(readable(copy) == 4 * batches_before(length));
  }
  for (uint64_t offset = 0; offset < sizeof(SpoolFileHeader); ++offset) {
    fs::copy_file(path, copy.path, fs::copy_options::overwrite_existing);
    flip_byte(copy.path, offset);
    REQUIRE_FALSE(read_spool_header(copy.path).ok());
    fs::resize_file(copy.path, offset);
    REQUIRE_FALSE(read_spool_header(copy.path).ok());
  }
}

TEST_CASE("spool: writers, the spooler, the pump and a receiver that comes and goes, all at once") {
  const ScratchDirectory scratch;
  const auto group = streaming_group(options_of(scratch.path("spool"), 64 * kMiB));
  std::atomic<uint64_t> number{0};
  std::vector<std::thread> writers;
  for (int thread = 0; thread < 3; ++thread) {
    writers.emplace_back([&] {
      while (number < 2'000) {
        while (group->is_crowded()) std::this_thread::sleep_for(200us);
        publish_one(*group, number++);
      }
    });
  }
  StreamReader reader(*group);
  reader.keeps_payload = true;
  reader.rewind(99, 0, 3);
  std::mt19937 random(7);
  uint64_t spooled_max = 0;
  for (bool is_over = false; !is_over;) {
    is_over = number >= 2'000;
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
    REQUIRE(group->start_shipping(reader.last_lsn, reader.link).ok());
    // A session that ends before it has given anything, again and again, would never come to an end.
    if (reader.last_lsn < group->position().lsn) REQUIRE(reader.take(60s));
    for (uint32_t frames = random() % 40; frames > 0 && reader.take(5ms); --frames)
      spooled_max = std::max(spooled_max, group->stats().spool_used_bytes);
    if (random() % 2 == 0) group->stop_shipping();
  }
  for (std::thread& writer : writers) writer.join();
  REQUIRE(group->start_shipping(reader.last_lsn, reader.link).ok());
  const uint64_t last = group->position().lsn;
  if (reader.last_lsn < last) reader.take_until(last);
  CHECK(reader.records.size() == last - 99);
  CHECK(std::all_of(reader.records.begin(), reader.records.end(), is_as_written));
  CHECK(reader.losses.empty());
  CHECK(group->mode() == Mode::kStreaming);
  CHECK(spooled_max > 0);
  MESSAGE("at most " << (spooled_max / kMiB) << " MiB were spooled");
}
