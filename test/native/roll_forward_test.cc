#include "device/roll_forward.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "journal_history.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

constexpr uint16_t kVolume = 3;

/// A journal of two generations with resizes, a base that is partly a hole, and what the oracle says.
struct Scene {
  ScratchDirectory directory;
  JournalHistory history;
  WrittenJournal journal;
  std::string base = directory.path("base");
  Bytes image;  // the base as it began

  explicit Scene(uint64_t seed)
      : history({.seed = seed, .generations = 2, .generation_bytes = 9u << 20}),
        image(history.image_bytes(kVolume)) {
    journal = write_journal(history, directory.path("."));
    Random random(seed);
    const Bytes data = random_bytes(random, 300u << 10);
    std::copy(data.begin(), data.end(), image.begin() + (1 << 20));
    write_file(base, {});
    std::filesystem::resize_file(base, (1u << 20) + data.size());
    const int fd = ::open(base.c_str(), O_WRONLY);
    REQUIRE(::pwrite(fd, data.data(), data.size(), 1 << 20) == static_cast<ssize_t>(data.size()));
    ::close(fd);
    for (const auto& [first_lsn, info] : journal.segments)
      if (info.sealed) REQUIRE(build_run(info, run_path(first_lsn)).ok());
  }
  std::string run_path(uint64_t first_lsn) const {
    return directory.path(std::to_string(first_lsn) + ".run");
  }

  /// After the records up to `lsn`; `size` becomes the volume's size then.
  Bytes state(uint64_t lsn, uint64_t* size) const {
    Bytes content = image;
    *size = history.volume(kVolume).size;
    for (const HistoryStep& step : history.steps)
      if (step.lsn <= lsn) history.apply(step, kVolume, &content, size);
    return content;
  }
  /// The volume at `lsn`, over a base that includes what is before `after_lsn`.
  PointSource source(uint64_t after_lsn, uint64_t lsn) const {
    PointSource source{
        .base_path = base, .size = 0, .block_size = 512, .volume = kVolume, .lsn = lsn, .tiles = {}};
    state(lsn, &source.size);
    for (const auto& [first_lsn, info] : journal.segments)
      if (first_lsn > after_lsn && first_lsn <= lsn)
        source.tiles.push_back({info, info.sealed ? run_path(first_lsn) : "", false});
    return source;
  }
  /// LSN at the end of each whole segment but the last.
  std::vector<uint64_t> ends() const {
    std::vector<uint64_t> lsns;
    for (const auto& [first_lsn, info] : journal.segments) lsns.push_back(info.last_lsn);
    lsns.pop_back();
    return lsns;
  }
  void check_point(uint64_t after_lsn, uint64_t lsn) const {
    INFO("lsn " << lsn << " over a base at " << after_lsn);
    const PointSource wanted = source(after_lsn, lsn);
    const auto device = PointInTimeDevice::open(wanted);
    REQUIRE(device.ok());
    Bytes shown(wanted.size);
    REQUIRE((*device)->read(0, shown.size(), shown.data()) == 0);
    uint64_t size = 0;
    CHECK(first_difference(shown, state(lsn, &size), shown.size()) == -1);
  }
  /// Points at `from` and behind it, the first and some others.
  void check_points(uint64_t after_lsn, uint64_t from) const {
    check_point(after_lsn, from);
    Random random(from);
    for (int i = 0; i < 4; ++i) {
      const HistoryStep& step = history.steps[random() % history.steps.size()];
      if (step.lsn >= from) check_point(after_lsn, step.lsn);
    }
    check_point(after_lsn, history.steps.back().lsn);
  }
};

void roll(const PointSource& source) {
  auto rolled = RollForward::open(source);
  REQUIRE(rolled.ok());
  for (;;) {
    const auto progress = (*rolled)->advance(64u << 10);
    REQUIRE(progress.ok());
    if (progress->is_done) break;
  }
  REQUIRE((*rolled)->sync().ok());
}

}  // namespace

TEST_CASE("roll-forward: a base moved over segments, step by step, changes no point behind them") {
  const Scene scene(71);
  REQUIRE(scene.ends().size() >= 3);
  uint64_t base = 0;
  for (const uint64_t end : scene.ends()) {
    roll(scene.source(base, end));
    base = end;
    scene.check_points(base, end);
  }
}

TEST_CASE("roll-forward: one that ends anywhere leaves every point at and behind its end as it was") {
  const Scene scene(72);
  const uint64_t end = scene.ends().at(2);
  for (uint64_t bytes = 1; bytes < 6u << 20; bytes += 900u << 10) {
    auto rolled = RollForward::open(scene.source(0, end));
    REQUIRE(rolled.ok());
    REQUIRE((*rolled)->advance(bytes).ok());
    scene.check_points(0, end);
  }
  // Done anew, and once more: nothing depends on what the base held where the segments have records.
  roll(scene.source(0, end));
  roll(scene.source(0, end));
  scene.check_points(end, end);
}

TEST_CASE("roll-forward: a point that is open meanwhile goes on showing what it did") {
  const Scene scene(73);
  const uint64_t end = scene.ends().at(1);
  const PointSource wanted = scene.source(0, end);
  const auto device = PointInTimeDevice::open(wanted);
  REQUIRE(device.ok());
  roll(scene.source(0, end));
  for (const auto& [first_lsn, info] : scene.journal.segments)
    if (first_lsn <= end) {
      std::filesystem::remove(info.path);
      std::filesystem::remove(scene.run_path(first_lsn));
    }
  Bytes shown(wanted.size);
  REQUIRE((*device)->read(0, shown.size(), shown.data()) == 0);
  uint64_t size = 0;
  CHECK(first_difference(shown, scene.state(end, &size), shown.size()) == -1);
}

TEST_CASE("roll-forward: a damaged segment ends it with its code") {
  const Scene scene(74);
  const uint64_t end = scene.ends().at(0);
  const SegmentInfo& first = scene.journal.segments.begin()->second;
  Bytes bytes = read_file(first.path);
  bytes[bytes.size() - 100] ^= std::byte{1};  // of the payload of its last frame
  write_file(first.path, bytes);
  auto rolled = RollForward::open(scene.source(0, end));
  REQUIRE(rolled.ok());
  const char* code = "";
  for (;;) {
    const auto progress = (*rolled)->advance(1u << 20);
    if (!progress.ok()) code = progress.error().code;
    if (!progress.ok() || progress->is_done) break;
  }
  CHECK(std::string(code) == "SEGMENT_CORRUPT");
}

TEST_CASE("roll-forward: a base that somebody writes to is not touched") {
  const Scene scene(75);
  const auto writer = FileDevice::open(scene.base, {.cache = FileDevice::Cache::kBuffered});
  REQUIRE(writer.ok());
  const auto rolled = RollForward::open(scene.source(0, scene.ends().at(0)));
  REQUIRE_FALSE(rolled.ok());
  CHECK(std::string(rolled.error().code) == "BACKING_BUSY");
}

namespace {

/// The block that `offset` lies in, of the file as it is.
uint32_t sum_in_file(const std::string& path, uint64_t block) {
  Bytes bytes(kBaseBlockBytes);
  const int fd = ::open(path.c_str(), O_RDONLY);
  REQUIRE(fd >= 0);
  REQUIRE(::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(block * kBaseBlockBytes)) >= 0);
  ::close(fd);
  return sum_of(bytes.data());
}

/// Every entry is that of what is there, or none; how many are none.
uint64_t check_sums(const std::string& path) {
  const auto sums = BaseChecksums::open(path);
  REQUIRE(sums.ok());
  REQUIRE(*sums != nullptr);
  std::vector<uint32_t> entries((std::filesystem::file_size(path) + kBaseBlockBytes - 1) / kBaseBlockBytes);
  REQUIRE((*sums)->get(0, entries).ok());
  uint64_t without = 0;
  for (uint64_t block = 0; block < entries.size(); ++block) {
    INFO("block " << block);
    if (entries[block] == kSumNone)
      ++without;
    else
      CHECK(entries[block] == sum_in_file(path, block));
  }
  return without;
}

void give_sums(const std::string& path) {
  auto writer = BaseWriter::open(path);
  REQUIRE(writer.ok());
  REQUIRE((*writer)->complete() == 0);
}

void rot(const std::string& path, uint64_t offset) {
  const int fd = ::open(path.c_str(), O_RDWR);
  std::byte byte{};
  REQUIRE(::pread(fd, &byte, 1, static_cast<off_t>(offset)) >= 0);
  byte ^= std::byte{1};
  REQUIRE(::pwrite(fd, &byte, 1, static_cast<off_t>(offset)) == 1);
  ::close(fd);
}

}  // namespace

TEST_CASE("roll-forward: the checksums of a base follow it, also where it grows, and wherever it ends") {
  const Scene scene(74);
  give_sums(scene.base);
  REQUIRE(check_sums(scene.base) == 0);
  const uint64_t end = scene.ends().at(2);
  for (uint64_t bytes = 1; bytes < 6u << 20; bytes += 900u << 10) {
    auto rolled = RollForward::open(scene.source(0, end));
    REQUIRE(rolled.ok());
    REQUIRE((*rolled)->advance(bytes).ok());
    CHECK(check_sums(scene.base) > 0);
    scene.check_points(0, end);
  }
  roll(scene.source(0, end));
  CHECK(check_sums(scene.base) == 0);
  scene.check_points(end, end);
}

TEST_CASE("roll-forward: a base without checksums gets those of what it writes") {
  const Scene scene(75);
  const uint64_t end = scene.ends().at(1);
  roll(scene.source(0, end));
  check_sums(scene.base);
  scene.check_points(end, end);
}

TEST_CASE("roll-forward: a damaged block of a base is written over as a whole, or not at all") {
  const Scene scene(76);
  const uint64_t end = scene.ends().at(0);
  const PointSource source = scene.source(0, end);
  give_sums(scene.base);
  // What the segments set, by block.
  const auto point = PointInTimeDevice::open(source);
  REQUIRE(point.ok());
  uint64_t whole = 0;
  uint64_t part = 0;
  for (uint64_t begin = 0; begin + kBaseBlockBytes <= std::filesystem::file_size(scene.base);
       begin += kBaseBlockBytes) {
    std::vector<PointInTimeDevice::Journaled> stretches;
    REQUIRE((*point)->journaled(begin, kBaseBlockBytes, &stretches) == 0);
    uint64_t bytes = 0;
    for (const auto& stretch : stretches) bytes += stretch.length;
    if (bytes == kBaseBlockBytes) whole = begin;
    if (bytes > 0 && bytes < kBaseBlockBytes) part = begin;
  }
  REQUIRE(whole + part > 0);
  SUBCASE("as a whole") {
    REQUIRE(whole > 0);
    rot(scene.base, whole);
    roll(source);
    CHECK(check_sums(scene.base) == 0);
    scene.check_points(end, end);
  }
  SUBCASE("not at all") {
    REQUIRE(part > 0);
    rot(scene.base, part);
    const uint32_t before = sum_in_file(scene.base, part / kBaseBlockBytes);
    auto rolled = RollForward::open(source);
    REQUIRE(rolled.ok());
    auto progress = (*rolled)->advance(~0ull);
    for (; progress.ok() && !progress->is_done;) progress = (*rolled)->advance(~0ull);
    REQUIRE(!progress.ok());
    CHECK(progress.error().code == std::string("BASE_CORRUPT"));
    CHECK((*rolled)->bad_offsets() == std::vector<uint64_t>{part});
    CHECK(sum_in_file(scene.base, part / kBaseBlockBytes) == before);
  }
}
