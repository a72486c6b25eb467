#include "capture/dirty_log.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "capture/dirty_log_cleaner.h"
#include "capture/path_turn.h"
#include "dirty_log_disk.h"
#include "memory_device.h"
#include "scratch_files.h"

using namespace afterimage;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t kExtent = kDirtyExtentBytes;
constexpr Uuid kVolume{1, 2, 3};

std::shared_ptr<DirtyLog> open_log(const std::string& path, uint64_t volume_bytes,
                                   JournalFile& file = JournalFile::system(), const Uuid& volume = kVolume) {
  auto log = DirtyLog::open({.path = path, .volume = volume, .volume_bytes = volume_bytes, .file = &file});
  REQUIRE(log.ok());
  return std::move(*log);
}

std::set<uint64_t> marked(const DirtyLog& log) {
  std::set<uint64_t> extents;
  for (uint64_t extent = 0; extent < log.state().extents; ++extent)
    if (log.is_marked(extent * kExtent)) extents.insert(extent);
  return extents;
}

/// Unmarks everything.
void settle(DirtyLog& log, uint64_t lsn = 1) {
  log.cut();
  log.unmark(1, lsn);
}

void write_to(DirtyLog& log, uint64_t extent) {
  const DirtyLog::Writer inside(&log, extent * kExtent, extent * kExtent + 512);
}

std::shared_ptr<InFlightTable> new_table() {
  auto table = InFlightTable::create();
  REQUIRE(table.ok());
  return std::move(*table);
}

/// What a file that is believed says; nothing of one that is not.
std::set<uint64_t> marked_in(const std::string& path, uint64_t volume_bytes) {
  UnsyncedFile file;
  std::set<uint64_t> extents;
  auto read = DirtyLogFile::open(path, {kVolume, volume_bytes}, file);
  if (!read.ok()) return extents;
  const auto pages = (*read)->take_pages();
  for (uint64_t extent = 0; extent < dirty_extents(volume_bytes); ++extent) {
    const uint64_t bit = extent % kDirtyPageExtents;
    const auto byte = static_cast<unsigned>(pages[extent / kDirtyPageExtents].bits[bit / 8]);
    if ((byte >> bit % 8 & 1) != 0) extents.insert(extent);
  }
  return extents;
}

/// Whose disk answers no sync while it is shut.
class HangingFile : public JournalFile {
 public:
  Errno fdatasync(int fd) override {
    wait();
    return JournalFile::fdatasync(fd);
  }
  Errno fsync(int fd) override {
    wait();
    return JournalFile::fsync(fd);
  }
  std::atomic<bool> is_shut{false};
  std::atomic<int> syncs{0};

 private:
  void wait() {
    ++syncs;
    while (is_shut) std::this_thread::sleep_for(1ms);
  }
};

bool includes(const std::set<uint64_t>& all, const std::set<uint64_t>& some) {
  return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

}  // namespace

TEST_CASE("dirty log: a new one has everything marked, and what is unmarked stays so over a restart") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  uint64_t id = 0;
  {
    auto log = open_log(path, 10 * kExtent + 512);
    CHECK(log->state().extents == 11);
    CHECK(log->marked() == 11);
    CHECK(log->state().distrust.find("there is none") != std::string::npos);
    settle(*log, 77);
    CHECK(log->marked() == 0);
    id = log->state().id;
  }
  {
    auto log = open_log(path, 10 * kExtent + 512);
    CHECK(log->state().distrust.empty());
    CHECK(log->state().id == id);
    CHECK(log->state().basis_lsn == 77);
    CHECK(log->marked() == 0);
    const DirtyLog::Writer inside(log.get(), 3 * kExtent - 1, 5 * kExtent);
    CHECK(marked(*log) == std::set<uint64_t>{2, 3, 4});
  }
  CHECK(marked(*open_log(path, 10 * kExtent + 512)) == std::set<uint64_t>{2, 3, 4});
}

TEST_CASE("dirty log: its sequence rises with each change that is durable, and is that of the file") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  auto log = open_log(path, 8 * kExtent);
  settle(*log);
  uint64_t before = log->state().sequence;
  write_to(*log, 1);
  CHECK(log->state().sequence > before);
  before = log->state().sequence;
  write_to(*log, 1);
  CHECK(log->state().sequence == before);
  log.reset();
  CHECK(open_log(path, 8 * kExtent)->state().sequence == before);
}

TEST_CASE("dirty log: an extent is unmarked only if nobody has been inside since the cut") {
  const ScratchDirectory directory;
  auto log = open_log(directory.path("log"), 8 * kExtent);
  settle(*log);
  SUBCASE("a writer that is inside at the cut") {
    const DirtyLog::Writer inside(log.get(), 0, 512);
    CHECK(log->cut() == 0);
    CHECK(log->unmark(1, 2) == 0);
    CHECK(log->is_marked(0));
  }
  SUBCASE("a writer that is inside at the unmarking") {
    write_to(*log, 0);
    CHECK(log->cut() == 1);
    const DirtyLog::Writer inside(log.get(), 0, 512);
    CHECK(log->unmark(1, 2) == 0);
    CHECK(log->is_marked(0));
  }
  SUBCASE("a writer that came and went in between") {
    write_to(*log, 0);
    CHECK(log->cut() == 1);
    write_to(*log, 0);
    CHECK(log->unmark(1, 2) == 0);
    CHECK(log->is_marked(0));
  }
  SUBCASE("nobody") {
    write_to(*log, 0);
    CHECK(log->cut() == 1);
    write_to(*log, 1);
    CHECK(log->unmark(1, 2) == 1);
    CHECK(marked(*log) == std::set<uint64_t>{1});
  }
}

TEST_CASE("dirty log: what is written to now and then stays marked") {
  const ScratchDirectory directory;
  auto log = open_log(directory.path("log"), 8 * kExtent);
  settle(*log);
  write_to(*log, 1);
  write_to(*log, 2);
  CHECK(log->cut(3) == 0);
  CHECK(log->cut(3) == 0);
  CHECK(log->cut(3) == 0);
  write_to(*log, 2);
  CHECK(log->cut(3) == 1);
  CHECK(log->unmark(1, 2, 3) == 1);
  CHECK(marked(*log) == std::set<uint64_t>{2});
  for (uint32_t i = 0; i < 2 * DirtyLog::kIdleCutsMax; ++i) log->cut(3);  // the count does not run over
  const DirtyLog::Writer inside(log.get(), 2 * kExtent, 2 * kExtent + 512);
  CHECK(log->cut(3) == 0);
  CHECK(log->unmark(1, 2, 3) == 0);
}

TEST_CASE("dirty log: what is not this volume's log, or not whole, puts everything in doubt") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  settle(*open_log(path, 8 * kExtent));
  const uint64_t id = open_log(path, 8 * kExtent)->state().id;
  const DiskBytes good = read_file(path);
  std::shared_ptr<DirtyLog> log;
  std::string why;
  SUBCASE("another volume's") {
    log = open_log(path, 8 * kExtent, JournalFile::system(), Uuid{9});
    why = "another volume";
  }
  SUBCASE("of another size") {
    log = open_log(path, 7 * kExtent);
    why = "bytes";
  }
  SUBCASE("cut short") {
    write_file(path, DiskBytes(good.begin(), good.end() - 1));
    log = open_log(path, 8 * kExtent);
    why = "bytes, not";
  }
  SUBCASE("empty") {
    write_file(path, {});
    log = open_log(path, 8 * kExtent);
    why = "damaged";
  }
  SUBCASE("all of a page gone") {
    DiskBytes bad = good;
    std::fill(bad.begin() + kDirtyHeadersBytes, bad.end(), std::byte{0});
    write_file(path, bad);
    log = open_log(path, 8 * kExtent);
    why = "page 0 is damaged";
  }
  SUBCASE("one copy of the newest left, and of the one before") {
    DiskBytes bad = good;
    bad[kDirtyHeadersBytes] ^= std::byte{1};
    bad[kDirtyHeadersBytes + kDirtyTurnBytes] ^= std::byte{1};
    write_file(path, bad);
    log = open_log(path, 8 * kExtent);
    why = "page 0 is damaged";
  }
  CHECK(log->marked() == log->state().extents);
  CHECK(log->state().distrust.find(why) != std::string::npos);
  CHECK(log->state().id != id);  // nobody takes it for the one before
  CHECK_FALSE(log->is_void());
}

TEST_CASE("dirty log: what a volume has grown by is in doubt, and nothing else is") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  const uint64_t before = 10 * kExtent + 512;  // an extent that is there in part
  const uint64_t after = 40'000 * kExtent;     // another page
  auto log = open_log(path, before);
  settle(*log, 5);
  log->set_synced(1);
  write_to(*log, 3);
  const DirtyLog::State old = log->state();
  std::set<uint64_t> expected{3};
  for (uint64_t extent = 10; extent < 40'000; ++extent) expected.insert(extent);
  SUBCASE("while it is open") {
    const DirtyLog::Writer inside(log.get(), 7 * kExtent, 7 * kExtent + 512);
    expected.insert(7);
    REQUIRE(log->grow(after).ok());
    CHECK(log->synced_generation() == 0);  // nothing of it has been compared
    CHECK(marked(*log) == expected);
    CHECK(log->marked() == expected.size());
    const DirtyLog::Writer behind(log.get(), after - 512, after);
  }
  SUBCASE("while it was not") {
    log.reset();
    log = open_log(path, after);
    CHECK(log->state().distrust.empty());
    CHECK(marked(*log) == expected);
  }
  CHECK(log->state().id == old.id);
  CHECK(log->state().basis_lsn == 5);
  CHECK(log->state().sequence > old.sequence);
  const uint64_t sequence = log->state().sequence;
  log.reset();
  CHECK(marked_in(path, after) == expected);
  CHECK(open_log(path, after)->state().sequence == sequence);
  log = open_log(path, after);
  settle(*log);
  CHECK(log->marked() == 0);
  log.reset();
  CHECK(open_log(path, before)->marked() == 11);  // of a larger volume: not to be believed
}

TEST_CASE("dirty log: one that cannot be made longer is void, and forgotten") {
  struct FailingSync final : UnsyncedFile {
    Errno fsync(int) override { return fails ? EIO : 0; }
    bool fails = false;
  } file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  file.fails = true;
  REQUIRE(log->grow(9 * kExtent).ok());
  CHECK(log->is_void());
  CHECK(marked(*log) == std::set<uint64_t>{8});
  write_to(*log, 8);
  log.reset();
  CHECK(open_log(path, 9 * kExtent)->marked() == 9);
}

TEST_CASE("dirty log: writers and whoever unmarks go on while it grows, and no mark is lost") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  constexpr uint64_t kFirst = 64;
  constexpr uint64_t kSteps = 20;
  constexpr uint64_t kLast = kFirst + kSteps * 2'000;
  UnsyncedFile file;
  auto log = open_log(path, kFirst * kExtent, file);
  settle(*log);
  std::atomic<uint64_t> extents{kFirst};
  std::atomic<bool> is_over{false};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 3; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      while (!is_over) {
        const uint64_t extent = random() % extents;
        const DirtyLog::Writer inside(log.get(), extent * kExtent, extent * kExtent + 512);
        CHECK(log->is_marked(extent * kExtent));
      }
    });
  }
  threads.emplace_back([&] {
    while (!is_over) settle(*log);
  });
  for (uint64_t step = 1; step <= kSteps; ++step) {
    const uint64_t count = kFirst + step * 2'000;
    REQUIRE(log->grow(count * kExtent).ok());
    extents = count;
  }
  is_over = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(log->state().extents == kLast);
  const auto expected = marked(*log);
  CHECK(log->marked() == expected.size());
  log.reset();
  CHECK(includes(marked_in(path, kLast * kExtent), expected));
}

TEST_CASE("dirty log: every prefix of a torn write leaves the state before it or after it") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  UnsyncedFile file;
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  write_to(*log, 3);
  const DiskBytes before = read_file(path);
  write_to(*log, 5);
  const DiskBytes after = read_file(path);
  log.reset();
  const auto [first, ignored] = std::mismatch(before.begin(), before.end(), after.begin());
  const auto slot = static_cast<size_t>(first - before.begin()) / kDirtySlotBytes * kDirtySlotBytes;
  const std::string torn = directory.path("torn");
  uint64_t states = 0;
  for (size_t copies = 0; copies < 3;
       ++copies) {  // the first copy torn; the second, with the first there or not
    for (size_t length = 0; length <= kDirtySlotBytes; ++length) {
      DiskBytes disk = before;
      const auto put = [&](size_t at, size_t bytes) {
        std::copy_n(after.begin() + static_cast<ptrdiff_t>(at), bytes,
                    disk.begin() + static_cast<ptrdiff_t>(at));
      };
      if (copies == 1) put(slot, kDirtySlotBytes);
      put(slot + (copies == 0 ? 0 : kDirtySlotBytes), length);
      write_file(torn, disk);
      const auto found = marked_in(torn, 8 * kExtent);
      if (found != std::set<uint64_t>{3} && found != std::set<uint64_t>{3, 5})
        FAIL("copies ", copies, ", ", length, " bytes");
      ++states;
      // And whoever goes on from there has both copies again.
      if (length % 256 > 1) continue;
      write_to(*open_log(torn, 8 * kExtent, file), 6);
      if (!includes(marked_in(torn, 8 * kExtent), {3, 6})) FAIL("went on from ", length);
    }
  }
  CHECK(states == 3 * (kDirtySlotBytes + 1));
}

TEST_CASE("dirty log: no flipped bit unmarks anything") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  UnsyncedFile file;
  auto log = open_log(path, 40 * kExtent, file);
  settle(*log);
  for (const uint64_t extent : {3, 17, 39}) write_to(*log, extent);
  const auto expected = marked(*log);
  log.reset();
  const DiskBytes good = read_file(path);
  const std::string flipped = directory.path("flipped");
  std::mt19937_64 random(7);
  for (size_t at = 0; at < good.size(); at += at % kDirtySlotBytes < 128 ? 1 : 7) {
    DiskBytes bad = good;
    bad[at] ^= static_cast<std::byte>(1u << (random() % 8));
    write_file(flipped, bad);
    // Of everything there is a second copy: it is even believed.
    if (!includes(marked_in(flipped, 40 * kExtent), expected)) FAIL("byte ", at);
  }
}

TEST_CASE(
    "dirty log: one failed write of it is final, production goes on, and the next start doubts everything") {
  class FailingFile : public JournalFile {
   public:
    Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) override {
      return fails_write ? ENOSPC : JournalFile::pwritev(fd, pieces, count, offset, written);
    }
    Errno fdatasync(int fd) override {
      ++syncs;
      return fails_sync ? EIO : JournalFile::fdatasync(fd);
    }
    std::atomic<bool> fails_write{false}, fails_sync{false};
    std::atomic<int> syncs{0};
  } file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  SUBCASE("a sync") { file.fails_sync = true; }
  SUBCASE("a write") { file.fails_write = true; }
  write_to(*log, 2);
  CHECK(log->is_void());
  CHECK(log->state().id == 0);
  CHECK(log->state().fault.find("cannot be written") != std::string::npos);
  file.fails_sync = file.fails_write = false;
  const int syncs = file.syncs;
  write_to(*log, 4);
  CHECK(marked(*log) == std::set<uint64_t>{2, 4});  // in memory, for a resync in this process
  settle(*log);
  CHECK(log->marked() == 0);
  CHECK(file.syncs == syncs);
  log.reset();
  CHECK(open_log(path, 8 * kExtent)->marked() == 8);
}

// Symptom: the disk of the state directory turned read-only while the receiver was away. Marks failed, and so
// did every attempt to make the file void, of which there was one; after a power loss it was believed.
TEST_CASE("dirty log: a file that cannot be made void is tried again, until it is") {
  ReadOnlyFile file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log"), kept = directory.path("kept");
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  MemoryDevice backing{512};
  DirtyLogCleaner cleaner{log.get(), &backing, [] { return CaptureGroup::Standing{}; }, {.poll = 24h}};
  take_no_changes(path, kept, file);
  SUBCASE("after a mark") { write_to(*log, 2); }
  SUBCASE("after it could not be made longer") { REQUIRE(log->grow(9 * kExtent).ok()); }
  SUBCASE("after it could not be begun anew") { log->begin_anew(); }
  CHECK(log->is_void());
  cleaner.step();
  CHECK(log->state().is_stale);
  restore_names(path, kept);
  CHECK(
      DirtyLogFile::open(path, {kVolume, 8 * kExtent}, JournalFile::system()).ok());  // it would be believed
  cleaner.step();
  CHECK(log->state().is_stale);  // unlinked, but that is not on stable storage
  file.is_read_only = false;
  cleaner.step();
  CHECK_FALSE(log->state().is_stale);
  CHECK(log->is_void());
  log.reset();
  CHECK(open_log(path, 8 * kExtent)->marked() == 8);
}

// Symptom: the disk of the state directory hung, and with it every first write to an extent, for good.
TEST_CASE("dirty log: a disk that does not answer holds nobody up for long, and is not believed later") {
  HangingFile file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  constexpr uint64_t kBytes = 8 * kExtent;
  settle(*open_log(path, kBytes));  // in its own time
  auto opened = DirtyLog::open(
      {.path = path, .volume = kVolume, .volume_bytes = kBytes, .file = &file, .patience = 1s});
  REQUIRE(opened.ok());
  const std::shared_ptr<DirtyLog> log = std::move(*opened);
  const auto table = new_table();
  log->keep_doubts_in(table);
  MemoryDevice backing{512};
  DirtyLogCleaner cleaner{log.get(), &backing, [] { return CaptureGroup::Standing{}; }, {.poll = 24h}};
  file.is_shut = true;
  std::thread beside;
  const auto begin = [&](auto change) {
    const int before = file.syncs;
    beside = std::thread(change);
    for (int wait = 0; file.syncs == before && wait < 5000; ++wait) std::this_thread::sleep_for(1ms);
    CHECK(file.syncs > before);
  };
  uint64_t extents = 8;
  SUBCASE("at a first mark") {
    begin([&] { write_to(*log, 1); });
  }
  SUBCASE("while the log is made longer") {
    extents = 9;
    begin([&] { CHECK(log->grow(9 * kExtent).ok()); });
  }
  SUBCASE("while the log is begun anew") {
    begin([&] { log->begin_anew(); });
  }
  SUBCASE("of whoever makes it longer, or begins it anew, too") {
    begin([&] { write_to(*log, 1); });
    log->begin_anew();
    CHECK(log->marked() == 8);
    REQUIRE(log->grow(9 * kExtent).ok());
    extents = 9;
  }
  write_to(*log, 2);
  CHECK(log->is_void());
  CHECK(log->is_marked(2 * kExtent));
  CHECK(log->state().id == 0);
  CHECK(log->state().fault.find("does not answer") != std::string::npos);
  CHECK(log->state().is_stale);
  CHECK(table->has(InFlightTable::kLogStale));
  cleaner.step();  // does not wait either
  CHECK(log->state().is_stale);
  file.is_shut = false;
  beside.join();
  // By whoever was in the file.
  for (int wait = 0; log->state().is_stale && wait < 5000; ++wait) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(log->state().is_stale);
  CHECK_FALSE(table->has(InFlightTable::kLogStale));
  CHECK(log->is_void());
  CHECK_FALSE(DirtyLogFile::open(path, {kVolume, extents * kExtent}, JournalFile::system()).ok());
}

// Symptom: an agent died while the disk of its state directory hung, and no successor served production
// before the disk answered.
TEST_CASE("dirty log: a disk that does not answer at the beginning holds nobody up for long either") {
  HangingFile file;
  const ScratchDirectory directory;
  std::string path = directory.path("log");
  constexpr uint64_t kBytes = 8 * kExtent;
  SUBCASE("with a log on it") { settle(*open_log(path, kBytes)); }
  SUBCASE("with none") {}
  SUBCASE("without a directory") { path = directory.path("dirty/log"); }
  file.is_shut = true;
  auto opened = DirtyLog::open(
      {.path = path, .volume = kVolume, .volume_bytes = kBytes, .file = &file, .opening_patience = 100ms});
  REQUIRE(opened.ok());
  const std::shared_ptr<DirtyLog> log = std::move(*opened);
  CHECK(log->is_void());
  CHECK(log->marked() == 8);
  CHECK(log->state().id == 0);
  CHECK(log->state().fault.find("does not answer") != std::string::npos);
  CHECK(log->state().is_stale);
  const auto doubts = new_table();
  log->keep_doubts_in(doubts);
  CHECK(doubts->has(InFlightTable::kLogStale));
  settle(*log);
  write_to(*log, 2);
  CHECK(marked(*log) == std::set<uint64_t>{2});
  REQUIRE(log->grow(9 * kExtent).ok());
  log->begin_anew();
  CHECK(log->marked() == 9);
  file.is_shut = false;
  for (int wait = 0; log->state().is_stale && wait < 5000; ++wait) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(log->state().is_stale);
  CHECK_FALSE(doubts->has(InFlightTable::kLogStale));
  CHECK(log->is_void());
  CHECK_FALSE(DirtyLogFile::open(path, {kVolume, kBytes}, JournalFile::system()).ok());
}

// Symptom: an agent whose state directory hung could not be stopped, nor protection be taken out.
TEST_CASE("dirty log: who lets go of one whose disk hangs does not wait for that") {
  static HangingFile file;  // which its thread needs when everybody has gone
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  settle(*open_log(path, kExtent));
  file.is_shut = true;
  auto opened = DirtyLog::open(
      {.path = path, .volume = kVolume, .volume_bytes = kExtent, .file = &file, .opening_patience = 100ms});
  REQUIRE(opened.ok());
  (*opened)->end();
  CHECK((*opened)->is_void());
  opened = Error{"", ""};
  const int before = file.syncs;
  file.is_shut = false;
  // What it opened is withdrawn all the same: two syncs after the one that hung.
  for (int wait = 0; file.syncs < before + 2 && wait < 5000; ++wait) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(DirtyLogFile::open(path, {kVolume, kExtent}, JournalFile::system()).ok());
}

// Symptom (review): protection was taken out and put in again while the disk hung, and once it answered the
// first log's thread withdrew the file that the second one had begun to mark in.
TEST_CASE("dirty log: one that was let go of while its disk hung does nothing to the file of the next") {
  static HangingFile file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  settle(*open_log(path, kExtent));
  file.is_shut = true;
  auto before = DirtyLog::open(
      {.path = path, .volume = kVolume, .volume_bytes = kExtent, .file = &file, .opening_patience = 100ms});
  REQUIRE(before.ok());
  (*before)->end();
  before = Error{"", ""};
  std::thread thaw([] {
    std::this_thread::sleep_for(200ms);
    file.is_shut = false;
  });
  const auto after = open_log(path, kExtent);
  thaw.join();
  CHECK_FALSE(after->is_void());
  { const DirtyLog::Writer writer(after.get(), 0, 1); }
  const uint64_t id = after->state().id;
  after->end();
  const auto found = DirtyLogFile::open(path, {kVolume, kExtent}, JournalFile::system());
  REQUIRE(found.ok());
  CHECK((*found)->id() == id);
}

// Symptom (review): protection was taken out while the disk took no changes, the command was cut off, and
// when it was put in again the file that lacks marks was believed.
TEST_CASE("dirty log: one that was let go of stale is begun anew, once its disk takes changes again") {
  ReadOnlyFile file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log"), kept = directory.path("kept");
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  log->keep_doubts_in(new_table());
  take_no_changes(path, kept, file);
  write_to(*log, 2);
  REQUIRE(log->state().is_stale);
  log->end();
  restore_names(path, kept);
  // It would be believed by another process.
  CHECK(DirtyLogFile::open(path, {kVolume, 8 * kExtent}, JournalFile::system()).ok());
  auto next = open_log(path, 8 * kExtent, file);
  CHECK(next->is_void());
  CHECK(next->marked() == 8);
  CHECK(next->state().is_stale);
  next->end();
  file.is_read_only = false;
  next = open_log(path, 8 * kExtent, file);
  CHECK_FALSE(next->is_void());
  CHECK(next->marked() == 8);
  CHECK(next->state().distrust.find("could not write what it marked") != std::string::npos);
  settle(*next);
  const uint64_t id = next->state().id;
  next->end();
  // And that is over.
  next = open_log(path, 8 * kExtent, file);
  CHECK(next->state().distrust.empty());
  CHECK(next->state().id == id);
  CHECK(next->marked() == 0);
}

TEST_CASE("dirty log: one that nobody wrote under is believed, whatever its disk did meanwhile") {
  ReadOnlyFile file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log"), kept = directory.path("kept");
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  const uint64_t id = log->state().id;
  log->end();
  take_no_changes(path, kept, file);
  log = open_log(path, 8 * kExtent, file);
  REQUIRE(log->state().is_stale);
  log->end();
  restore_names(path, kept);
  file.is_read_only = false;
  log = open_log(path, 8 * kExtent, file);
  CHECK(log->state().id == id);
  CHECK(log->marked() == 0);
}

// Symptom (review): of two that waited for a disk that hung the younger went first, and the older one
// withdrew its file when it ended.
TEST_CASE("path turn: they go in the order in which they drew, whoever waits first") {
  std::vector<std::unique_ptr<PathTurn>> turns;
  for (int i = 0; i < 4; ++i) turns.push_back(std::make_unique<PathTurn>("a path"));
  std::mutex mutex;
  std::vector<int> order, refuted;
  std::vector<std::thread> threads;
  for (int i = 3; i > 0; --i) {
    threads.emplace_back([&, i] {
      turns[i]->wait();
      {
        const std::lock_guard lock(mutex);
        order.push_back(i);
        if (turns[i]->is_refuted()) refuted.push_back(i);
      }
      turns[i]->leave(i == 2);
      turns[i].reset();
    });
    std::this_thread::sleep_for(5ms);
  }
  PathTurn("another path").wait();
  CHECK(order.empty());
  turns[0]->wait();
  turns[0]->leave(true);
  turns[0].reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK(refuted == std::vector<int>{1, 3});  // also of who waited already, and of who comes later
  const PathTurn later("a path");
  CHECK_FALSE(later.is_refuted());
}

TEST_CASE("dirty log: whatever number of new ones makes their directory") {
  const ScratchDirectory directory;
  std::vector<std::thread> openers;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i)
    openers.emplace_back([&, i] {
      auto log =
          DirtyLog::open({.path = directory.path("dirty/" + std::to_string(i)), .volume_bytes = kExtent});
      if (log.ok() && !(*log)->is_void()) ++good;
    });
  for (std::thread& opener : openers) opener.join();
  CHECK(good == 8);
}

TEST_CASE("dirty log: the directory of a new one is made, but not what that lies in") {
  const ScratchDirectory directory;
  CHECK_FALSE(open_log(directory.path("dirty/log"), kExtent)->is_void());
  CHECK(open_log(directory.path("none/dirty/log"), kExtent)->is_void());
}

// Symptom: a mark could not be synced, and the agent was killed while it withdrew the log. Its successor
// found the mark, which was in the page cache only, and wrote there; after a power loss nobody compared it.
TEST_CASE("dirty log: a successor of who was killed while withdrawing a log does not believe it") {
  class FailingFile : public JournalFile {
   public:
    Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) override {
      if (!may_sync && withdrawing) withdrawing();
      return JournalFile::pwritev(fd, pieces, count, offset, written);
    }
    Errno fdatasync(int fd) override {
      if (!fails) return JournalFile::fdatasync(fd);
      may_sync = false;
      return EIO;
    }
    std::atomic<bool> fails{false};
    bool may_sync = true;
    std::function<void()> withdrawing;
  } file;
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  auto log = open_log(path, 8 * kExtent, file);
  settle(*log);
  const auto table = new_table();
  log->keep_doubts_in(table);
  int instants = 0;
  file.withdrawing = [&] {
    file.fails = false;
    if (instants++ > 0) return;  // its header is no more
    auto found = DirtyLogFile::open(path, {kVolume, 8 * kExtent}, JournalFile::system());
    REQUIRE(found.ok());
    CHECK(((*found)->take_pages()[0].bits[0] & std::byte{1u << 2}) != std::byte{0});
    CHECK(table->has(InFlightTable::kLogStale));
  };
  file.fails = true;
  write_to(*log, 2);
  CHECK(instants > 0);
  CHECK(log->is_void());
  CHECK_FALSE(log->state().is_stale);
  CHECK_FALSE(table->has(InFlightTable::kLogStale));
}

// Symptom: as long as many wrote where nothing was marked, nobody else got the file.
TEST_CASE("dirty log: it is made longer while there is no end of first marks") {
  class SlowFile : public JournalFile {
   public:
    Errno fdatasync(int fd) override {
      std::this_thread::sleep_for(20ms);  // longer than a writer needs to come back
      return JournalFile::fdatasync(fd);
    }
  } file;
  constexpr uint64_t kWriters = 4, kExtentsEach = 100;
  const ScratchDirectory directory;
  auto log = open_log(directory.path("log"), kWriters * kExtentsEach * kExtent, file);
  settle(*log);
  std::atomic<bool> is_grown{false};
  std::atomic<int> begun{0};
  std::vector<std::thread> writers;
  for (uint64_t writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint64_t at = 0; at < kExtentsEach && !is_grown; ++at) {
        write_to(*log, writer * kExtentsEach + at);
        if (at == 0) ++begun;
      }
    });
  }
  while (begun < static_cast<int>(kWriters)) std::this_thread::sleep_for(1ms);
  CHECK(log->grow((kWriters * kExtentsEach + 1) * kExtent).ok());
  CHECK(log->marked() < kWriters * kExtentsEach / 2);  // and not when they had all been made
  is_grown = true;
  for (auto& writer : writers) writer.join();
  CHECK_FALSE(log->is_void());
}

// Symptom: what was made void was the file that had been replaced, and the one in its place was believed.
TEST_CASE("dirty log: one that is made longer, but perhaps not for good, is void where it lies") {
  class FailingDirectory : public JournalFile {
   public:
    Errno fsync(int fd) override {
      struct stat about {};
      if (fails && ::fstat(fd, &about) == 0 && S_ISDIR(about.st_mode)) return EIO;
      return JournalFile::fsync(fd);
    }
    std::atomic<bool> fails{false};
  } file;
  const ScratchDirectory directory;
  auto log = open_log(directory.path("log"), 8 * kExtent, file);
  settle(*log);
  file.fails = true;
  REQUIRE(log->grow(9 * kExtent).ok());
  CHECK(log->is_void());
  CHECK(log->state().is_stale);  // that it was unlinked may be forgotten
  file.fails = false;
  log->refute();
  CHECK_FALSE(log->state().is_stale);
}

TEST_CASE("dirty log: where none can be made, there is a void one, and no old one is left to be believed") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  settle(*open_log(path, 8 * kExtent));
  class FullFile : public JournalFile {
   public:
    Errno pwritev(int, const iovec*, int, uint64_t, uint64_t*) override { return ENOSPC; }
    Errno fdatasync(int) override { return EIO; }
  } file;
  auto log = open_log(path, 8 * kExtent, file);
  CHECK(log->is_void());
  CHECK(log->marked() == 8);
  CHECK(log->state().id == 0);
  write_to(*log, 1);
  log.reset();
  struct stat about {};
  CHECK(::stat(path.c_str(), &about) != 0);
}

TEST_CASE("dirty log: 64 TiB are 16 Mi extents, 8.2 MiB on the disk") {
  CHECK(dirty_extents(64ull << 40) == 16u << 20);
  CHECK(dirty_pages(64ull << 40) == 521);
  CHECK(kDirtyHeadersBytes + dirty_pages(64ull << 40) * kDirtyPageBytes == 8'544'256);
}

TEST_CASE("dirty log: writers that wait together are served by one sync") {
  HangingFile file;
  const ScratchDirectory directory;
  auto log = open_log(directory.path("log"), 64 * kExtent, file);
  settle(*log);
  file.is_shut = true;
  const int before = file.syncs;
  std::atomic<int> entered{0};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] {
      write_to(*log, i);
      ++entered;
    });
  }
  while (file.syncs == before) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(50ms);
  CHECK(entered == 0);  // none is let in before its mark is durable
  file.is_shut = false;
  for (auto& thread : threads) thread.join();
  CHECK(file.syncs - before <= 3);
}

TEST_CASE("dirty log: many threads write and a cleaner unmarks, and whoever is inside has a durable mark") {
  /// Decodes what is written, and takes over at each sync what is durable then.
  class DecodingFile : public JournalFile {
   public:
    Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) override {
      if (offset >= kDirtyHeadersBytes && (offset / kDirtySlotBytes) % 2 == 0)
        std::memcpy(written_.data(),
                    static_cast<const std::byte*>(pieces[0].iov_base) + kDirtySlotHeaderBytes,
                    written_.size());
      return JournalFile::pwritev(fd, pieces, count, offset, written);
    }
    Errno fdatasync(int) override {
      // Before the sync what was written may be there or not: only what both have is.
      for (size_t i = 0; i < written_.size(); ++i) durable_[i] = static_cast<uint8_t>(written_[i]);
      return 0;
    }
    Errno fsync(int fd) override { return fdatasync(fd); }
    bool holds(uint64_t extent) const { return (durable_[extent / 8] >> (extent % 8) & 1) != 0; }

   private:
    std::array<std::byte, 32> written_{};
    std::array<std::atomic<uint8_t>, 32> durable_{};
  } file;
  constexpr uint64_t kExtents = 24;
  const ScratchDirectory directory;
  auto log = open_log(directory.path("log"), kExtents * kExtent, file);
  log->set_synced(1);
  MemoryDevice backing(512);
  std::atomic<uint64_t> lsn{0};
  std::atomic<bool> is_over{false};
  std::atomic<uint64_t> unmarked{0}, unproven{0}, writes{0};
  DirtyLogCleaner cleaner(log.get(), &backing,
                          [&] {
                            return CaptureGroup::Standing{true, 1, lsn.load(), lsn.load()};
                          },
                          {.poll = 24h, .flush_patience = 0ms, .idle_cuts = 0});
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      while (!is_over) {
        const uint64_t first = random() % kExtents;
        const uint64_t last = std::min<uint64_t>(kExtents - 1, first + random() % 2);
        const DirtyLog::Writer inside(log.get(), first * kExtent, last * kExtent + 512);
        for (uint64_t extent = first; extent <= last; ++extent) unproven += !file.holds(extent);
        if (random() % 16 == 0) std::this_thread::yield();
        for (uint64_t extent = first; extent <= last; ++extent) unproven += !file.holds(extent);
        ++lsn;
        ++writes;
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + 1500ms;
  while (std::chrono::steady_clock::now() < end) {
    const uint64_t before = log->marked();
    cleaner.step();
    if (log->marked() < before) unmarked += before - log->marked();
  }
  is_over = true;
  for (auto& thread : threads) thread.join();
  CHECK(unproven == 0);
  CHECK(writes > 1000);
  CHECK(unmarked > 10);
}

// --- the cleaner's rules ---

namespace {

struct Cleaning {
  Cleaning() : log(open_log(directory.path("log"), 8 * kExtent, file)) {
    settle(*log);
    log->set_synced(1);
  }
  UnsyncedFile file;
  const ScratchDirectory directory;
  std::shared_ptr<DirtyLog> log;
  MemoryDevice backing{512};
  CaptureGroup::Standing standing{true, 1, 10, 10};
  DirtyLogCleaner cleaner{
      log.get(), &backing, [this] { return standing; }, {.poll = 24h, .flush_patience = 0ms, .idle_cuts = 0}};
};

}  // namespace

TEST_CASE("dirty log cleaner: nothing is unmarked before a flush of the backing has succeeded") {
  Cleaning site;
  write_to(*site.log, 1);
  site.standing.confirmed_lsn = site.standing.captured_lsn = 11;
  SUBCASE("one that fails, and then would succeed") {
    site.backing.flush_error = EIO;
    site.cleaner.step();
    CHECK(site.log->is_marked(kExtent));
    site.backing.flush_error = 0;
    for (int i = 0; i < 3; ++i) site.cleaner.step();
    CHECK(site.cleaner.clean_up() == 1);
    CHECK(site.log->is_marked(kExtent));
    CHECK(site.log->has_flush_failed());
  }
  SUBCASE("one that succeeds") {
    site.cleaner.step();
    CHECK_FALSE(site.log->is_marked(kExtent));
    CHECK(site.backing.flushes == 1);
  }
}

TEST_CASE("dirty log cleaner: a flush of production that began before the write does not count") {
  Cleaning site;
  DirtyLogCleaner patient(site.log.get(), &site.backing, [&] { return site.standing; },
                          {.poll = 24h, .flush_patience = 24h, .idle_cuts = 0});
  const uint64_t early = site.log->flush_began();
  write_to(*site.log, 1);
  site.standing.confirmed_lsn = site.standing.captured_lsn = 11;
  patient.step();
  site.log->flush_ended(early, true);
  patient.step();
  CHECK(site.log->is_marked(kExtent));
  site.log->flush_ended(site.log->flush_began(), true);
  patient.step();
  CHECK_FALSE(site.log->is_marked(kExtent));
  CHECK(site.backing.flushes == 0);  // production's was enough
}

TEST_CASE("dirty log cleaner: nothing is unmarked that the receiver does not have") {
  Cleaning site;
  write_to(*site.log, 1);
  site.standing.captured_lsn = 11;
  site.cleaner.step();
  CHECK(site.log->is_marked(kExtent));
  SUBCASE("once it has it") {
    site.standing.confirmed_lsn = 11;
    site.cleaner.step();
    CHECK_FALSE(site.log->is_marked(kExtent));
    CHECK(site.log->state().basis_lsn == 11);
  }
  SUBCASE("the stream has ended meanwhile: what it released it has given up") {
    site.standing = {false, 1, 11, 11};
    site.cleaner.step();
    CHECK(site.log->is_marked(kExtent));
    site.standing = {true, 2, 20, 20};  // and its successor is not synced
    site.cleaner.step();
    site.cleaner.step();
    CHECK(site.log->is_marked(kExtent));
    site.log->set_synced(2);
    site.cleaner.step();
    CHECK_FALSE(site.log->is_marked(kExtent));
  }
  SUBCASE("at a clean stop") {
    CHECK(site.cleaner.clean_up() == 1);
    site.standing.confirmed_lsn = 11;
    CHECK(site.cleaner.clean_up() == 0);
  }
}

// --- power loss ---

namespace {

/// A volume of which it is known what each extent owes: the invariant's other side.
struct Truth {
  struct Extent {
    uint64_t lsn = 0;        // of its last write
    bool is_flushed = true;  // by a flush that began after it
  };
  std::set<uint64_t> owing() const {
    std::set<uint64_t> owing;
    for (const auto& [extent, debt] : extents)
      if (debt.lsn > confirmed || !debt.is_flushed) owing.insert(extent);
    return owing;
  }
  std::map<uint64_t, Extent> extents;
  uint64_t captured = 0;
  uint64_t confirmed = 0;
};

class TruthfulBacking final : public BlockDevice {
 public:
  explicit TruthfulBacking(Truth* truth) : truth_(*truth) {}
  uint64_t size() const override { return 512; }
  uint32_t block_size() const override { return 512; }
  bool read_only() const override { return false; }
  Errno read(uint64_t, uint64_t, std::byte*) override { return 0; }
  Errno write(uint64_t, uint64_t, const std::byte*, const RequestOptions&) override { return 0; }
  Errno zero(uint64_t, uint64_t, const RequestOptions&) override { return 0; }
  Errno trim(uint64_t, uint64_t, const RequestOptions&) override { return 0; }
  Errno flush() override {
    if (error != 0) return error;
    for (auto& [extent, debt] : truth_.extents) debt.is_flushed = true;
    return 0;
  }
  Errno error = 0;

 private:
  Truth& truth_;
};

}  // namespace

TEST_CASE(
    "dirty log: in every state that a power loss can leave, what was not replicated or not flushed is "
    "marked") {
  const ScratchDirectory directory;
  const std::string path = directory.path("log");
  const std::string state_path = directory.path("state");
  const uint64_t volume_bytes = 300ull << 30;  // three pages
  const uint64_t extents = dirty_extents(volume_bytes);
  std::mt19937_64 random(20261125);
  UnsyncedFile unsynced;
  {
    auto log = open_log(path, volume_bytes, unsynced);
    settle(*log);
  }
  Truth truth;
  uint64_t generation = 1, states = 0, sync_points = 0, losses = 0;
  std::string violation;  // the first: what is thrown on the log's thread would end the program
  while (sync_points < 700 && violation.empty()) {
    DirtyLogDisk disk(path);
    const auto violated = [&](const std::string& what) {
      if (violation.empty())
        violation = what + " after " + std::to_string(sync_points + disk.syncs) + " syncs";
    };
    const auto check = [&](const DiskBytes& bytes) {
      write_file(state_path, bytes);
      auto found = DirtyLogFile::open(state_path, {kVolume, volume_bytes}, unsynced);
      ++states;
      if (!found.ok()) return violated("a legal state is not believed: " + found.error().message);
      const auto pages = (*found)->take_pages();
      for (const uint64_t extent : truth.owing()) {
        const uint64_t bit = extent % kDirtyPageExtents;
        const auto byte = static_cast<unsigned>(pages[extent / kDirtyPageExtents].bits[bit / 8]);
        if ((byte >> bit % 8 & 1) == 0) violated("extent " + std::to_string(extent) + " is not marked");
      }
      for (const DirtyPage& page : pages)
        if (page.basis_lsn > std::max<uint64_t>(truth.confirmed, 1))
          violated("a basis beyond " + std::to_string(truth.confirmed));
    };
    // Power is lost at a call of the disk, most often in the middle of writing a mark.
    DiskBytes left;
    Truth truth_left;
    uint64_t calls_left = 40 + random() % 400;
    disk.watch = [&](const DirtyLogDisk& now) {
      if (calls_left == 0) return;
      for (int i = 0; i < 3; ++i) check(now.state(random));
      if (--calls_left > 0) return;
      left = now.state(random);
      truth_left = truth;
    };
    auto log = open_log(path, volume_bytes, disk);  // its own repairs are watched too
    TruthfulBacking backing(&truth);
    DirtyLogCleaner cleaner(
        log.get(), &backing,
        [&] {
          return CaptureGroup::Standing{true, generation, truth.captured, truth.confirmed};
        },
        {.poll = 24h, .flush_patience = 0ms, .idle_cuts = 0});
    // After a loss what is marked is sent again, and only then does the receiver hold the volume.
    if (generation > 1)
      for (const uint64_t extent : marked(*log))
        truth.extents[extent] = {.lsn = ++truth.captured, .is_flushed = false};
    log->set_synced(generation);
    while (calls_left > 0) {
      switch (random() % 8) {
        case 0:
          truth.confirmed += random() % (truth.captured - truth.confirmed + 1);
          break;
        case 1:
          truth.confirmed = truth.captured;
          cleaner.step();
          break;
        case 2:
          if (random() % 16 == 0) backing.error = EIO;  // final: from then on only marks are added
          cleaner.step();
          break;
        default: {
          // Neighbours of a few places, on all pages.
          const uint64_t extent = (random() % 12) * (extents / 12) + random() % 40;
          const DirtyLog::Writer inside(log.get(), extent * kExtent, extent * kExtent + 4096);
          truth.extents[extent] = {.lsn = ++truth.captured, .is_flushed = false};
        }
      }
    }
    sync_points += disk.syncs;
    log.reset();
    write_file(path, left);
    truth = truth_left;
    ++generation;
    ++losses;
  }
  MESSAGE(states, " states at ", sync_points, " sync points, ", losses, " losses survived");
  CHECK_MESSAGE(violation.empty(), violation);
  CHECK(states >= 5000);
}
