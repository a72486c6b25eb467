#include "device/point_in_time_device.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "block_device_contract.h"
#include "journal_history.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

enum class Runs { kNone, kAll, kDamaged, kStale };

/// A journal with bases that are partly holes, and the images that the oracle expects.
struct Scene {
  ScratchDirectory directory;
  JournalHistory history;
  WrittenJournal journal;
  std::map<uint16_t, Bytes> bases;

  explicit Scene(const JournalHistory::Options& options) : history(options) {
    journal = write_journal(history, directory.path("."));
    Random random(options.seed);
    for (const uint16_t volume : {3, 60}) {
      Bytes base(history.image_bytes(volume));
      // Data, a hole, data, and nothing beyond: the base is shorter than the volume.
      for (const uint64_t at : {uint64_t{0}, uint64_t{1} << 20}) {
        const Bytes data = random_bytes(random, 300u << 10);
        std::copy(data.begin(), data.end(), base.begin() + static_cast<int64_t>(at));
      }
      const std::string path = base_path(volume);
      write_file(path, {});
      std::filesystem::resize_file(path, (1u << 20) + (300u << 10));
      const int fd = ::open(path.c_str(), O_WRONLY);
      for (const uint64_t at : {uint64_t{0}, uint64_t{1} << 20})
        REQUIRE(::pwrite(fd, base.data() + at, 300u << 10, static_cast<off_t>(at)) == 300 << 10);
      ::close(fd);
      bases[volume] = std::move(base);
    }
  }
  std::string base_path(uint16_t volume) const { return directory.path("base-" + std::to_string(volume)); }
  std::string run_path(uint64_t first_lsn) const {
    return directory.path(std::to_string(first_lsn) + ".run");
  }

  PointSource source(uint16_t volume, uint64_t lsn, uint64_t size, Runs runs) const {
    PointSource source{.base_path = base_path(volume),
                       .size = size,
                       .block_size = 512,
                       .volume = volume,
                       .lsn = lsn,
                       .tiles = {}};
    for (const auto& [first_lsn, info] : journal.segments)
      source.tiles.push_back({info, runs == Runs::kNone || !info.sealed ? "" : run_path(first_lsn)});
    return source;
  }
  void build_runs(Runs runs) const {
    std::string previous;
    for (const auto& [first_lsn, info] : journal.segments) {
      if (!info.sealed) continue;
      const std::string path = run_path(first_lsn);
      REQUIRE(build_run(info, path).ok());
      if (runs == Runs::kDamaged) {
        Bytes bytes = read_file(path);
        bytes[first_lsn == 1 ? 40 : bytes.size() - 4096 + 3] ^= std::byte{1};  // the header, or a page
        write_file(path, bytes);
      }
      if (runs == Runs::kStale && !previous.empty())  // whole, but of another segment
        std::filesystem::copy_file(previous, path, std::filesystem::copy_options::overwrite_existing);
      previous = path;
    }
  }
};

/// What the device shows, read in pieces of random size and alignment.
Bytes read_in_pieces(BlockDevice& device, Random& random) {
  Bytes content(device.size());
  for (uint64_t at = 0; at < content.size();) {
    const uint64_t length = std::min(content.size() - at, 1 + random() % (random() % 2 == 0 ? 5000 : 700000));
    REQUIRE(device.read(at, length, content.data() + at) == 0);
    at += length;
  }
  return content;
}

/// At many random LSNs, and the first and last of every segment, each volume is what the oracle says.
void check_points(const Scene& scene, Runs runs, uint64_t seed) {
  scene.build_runs(runs);
  Random random(seed);
  std::set<uint64_t> points;
  for (int i = 0; i < (kIsSampled ? 2 : 12); ++i)
    points.insert(scene.history.steps[random() % scene.history.steps.size()].lsn);
  for (const auto& [first_lsn, info] : scene.journal.segments)
    if (!kIsSampled) points.insert({info.first_lsn, info.last_lsn});
  std::map<uint16_t, Bytes> images = scene.bases;
  std::map<uint16_t, uint64_t> sizes;
  for (const uint16_t volume : {3, 60}) sizes[volume] = scene.history.volume(volume).size;
  for (const HistoryStep& step : scene.history.steps) {
    for (auto& [volume, image] : images) scene.history.apply(step, volume, &image, &sizes[volume]);
    if (!points.contains(step.lsn)) continue;
    for (const auto& [volume, image] : images) {
      INFO("seed " << seed << " lsn " << step.lsn << " volume " << volume);
      const auto device = PointInTimeDevice::open(scene.source(volume, step.lsn, sizes[volume], runs));
      REQUIRE(device.ok());
      const Bytes shown = read_in_pieces(**device, random);
      REQUIRE(shown.size() == sizes[volume]);
      CHECK(first_difference(shown, image, shown.size()) == -1);
    }
  }
}

constexpr JournalHistory::Options kTwoGenerations{.seed = 31, .generations = 2, .generation_bytes = 6u << 20};
constexpr JournalHistory::Options kSmallWrites{.seed = 32,
                                               .generations = 2,
                                               .generation_bytes = 5u << 20,
                                               .record_bytes_max = 4096,
                                               .frame_raw_bytes = 900u << 10};

}  // namespace

TEST_CASE("any point shows exactly the records up to it, with runs of all sealed segments") {
  check_points(Scene(kTwoGenerations), Runs::kAll, 1);
  if (!kIsSampled) check_points(Scene(kSmallWrites), Runs::kAll, 2);
}

TEST_CASE("any point shows exactly the records up to it, when no run was built") {
  check_points(Scene(kTwoGenerations), Runs::kNone, 3);
}

TEST_CASE("any point shows exactly the records up to it, when runs are damaged in header or page") {
  check_points(Scene(kTwoGenerations), Runs::kDamaged, 4);
}

TEST_CASE("any point shows exactly the records up to it, when runs are of other segments") {
  check_points(Scene(kTwoGenerations), Runs::kStale, 5);
}

TEST_CASE("a point keeps its content when the files are unlinked and the journal goes on") {
  const Scene scene(kTwoGenerations);
  scene.build_runs(Runs::kDamaged);
  const uint64_t lsn = scene.journal.segments.rbegin()->second.first_lsn;
  std::map<uint16_t, uint64_t> sizes{{3, scene.history.volume(3).size}};
  Bytes image = scene.bases.at(3);
  for (const HistoryStep& step : scene.history.steps)
    if (step.lsn <= lsn) scene.history.apply(step, 3, &image, &sizes[3]);
  const auto device = PointInTimeDevice::open(scene.source(3, lsn, sizes[3], Runs::kDamaged));
  REQUIRE(device.ok());
  for (const auto& entry : std::filesystem::directory_iterator(scene.directory.path(".")))
    std::filesystem::remove(entry.path());
  Random random(1);
  CHECK(first_difference(read_in_pieces(**device, random), image, sizes[3]) == -1);
}

TEST_CASE("a point keeps its content when its runs can no longer be read") {
  const Scene scene(kSmallWrites);
  scene.build_runs(Runs::kAll);
  const uint64_t lsn = scene.history.steps.back().lsn;
  uint64_t size = scene.history.volume(3).size;
  Bytes image = scene.bases.at(3);
  for (const HistoryStep& step : scene.history.steps) scene.history.apply(step, 3, &image, &size);
  const auto device = PointInTimeDevice::open(scene.source(3, lsn, size, Runs::kAll));
  REQUIRE(device.ok());
  for (const auto& [first_lsn, info] : scene.journal.segments)
    if (info.sealed) std::filesystem::resize_file(scene.run_path(first_lsn), 4096);
  Random random(1);
  CHECK(first_difference(read_in_pieces(**device, random), image, size) == -1);
}

// Symptom: with more segments than the process could hold open or mapped, a point was opened by scanning the
// tables of those that had no run for it, minutes long, or failed with advice about the disk.
TEST_CASE("a point for which the descriptors do not suffice is refused by name, and not scanned for") {
  const Scene scene(kTwoGenerations);
  scene.build_runs(Runs::kAll);
  uint64_t size = scene.history.volume(3).size;
  const PointSource source = scene.source(3, scene.history.steps.back().lsn, size, Runs::kAll);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  std::vector<std::string> codes;
  const auto lowest_free = static_cast<rlim_t>(::dup(0));
  ::close(static_cast<int>(lowest_free));
  for (rlim_t spare = 0; spare <= 2 * source.tiles.size() + 2; ++spare) {
    const rlimit few{.rlim_cur = lowest_free + spare, .rlim_max = before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    const auto device = PointInTimeDevice::open(source);
    const std::string code = device.ok() ? "opened" : device.error().code;
    if (codes.empty() || codes.back() != code) codes.push_back(code);
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(codes == std::vector<std::string>{"FILE_LIMIT", "opened"});
}

TEST_CASE("a point over more segments than its maximum is refused before any of them is opened") {
  PointSource source{.base_path = "/nowhere", .size = 512, .volume = 3, .lsn = kPointTilesMax, .tiles = {}};
  for (uint64_t lsn = 1; lsn <= kPointTilesMax + 1; ++lsn) {
    SegmentInfo info{.path = "/nowhere", .generation = 1, .first_lsn = lsn, .last_lsn = lsn};
    source.tiles.push_back({.segment = info, .run_path = ""});
  }
  const auto code = [&] { return std::string(PointInTimeDevice::open(source).error().code); };
  CHECK(code() == "BASE_MISSING");  // as many as there may be
  source.lsn = kPointTilesMax + 1;
  CHECK(code() == "POINT_TOO_LONG");
}

TEST_CASE("many readers of one point see the same") {
  const Scene scene(kSmallWrites);
  scene.build_runs(Runs::kDamaged);  // so that they race to scan the segment, too
  const uint64_t lsn = scene.history.steps.back().lsn - 3;
  uint64_t size = scene.history.volume(60).size;
  Bytes image = scene.bases.at(60);
  for (const HistoryStep& step : scene.history.steps)
    if (step.lsn <= lsn) scene.history.apply(step, 60, &image, &size);
  const auto device = PointInTimeDevice::open(scene.source(60, lsn, size, Runs::kDamaged));
  REQUIRE(device.ok());
  std::atomic<int> mistakes{0};
  std::vector<std::thread> readers;
  for (uint64_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      Random random(reader);
      Bytes piece(40000);
      for (int round = 0; round < (kIsSampled ? 60 : 300); ++round) {
        const uint64_t length = 1 + random() % piece.size();
        const uint64_t offset = random() % (size - length);
        if ((*device)->read(offset, length, piece.data()) != 0 ||
            std::memcmp(piece.data(), image.data() + offset, length) != 0)
          ++mistakes;
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  CHECK(mistakes == 0);
}

TEST_CASE("what is not the state at a known LSN is refused by name") {
  const Scene scene({.seed = 33, .generations = 2, .generation_bytes = 9u << 20});
  const auto code_of = [&](auto change) {
    PointSource source = scene.source(3, 5, scene.history.volume(3).size, Runs::kNone);
    change(source);
    const auto device = PointInTimeDevice::open(source);
    return device.ok() ? std::string("opened") : std::string(device.error().code);
  };
  const uint64_t last_of_first = scene.history.generations[1].first_lsn - 1001;
  CHECK(code_of([](PointSource&) {}) == "opened");
  CHECK(code_of([](PointSource& s) { s.lsn = 0; }) == "opened");  // the base alone
  CHECK(code_of([&](PointSource& s) { s.lsn = last_of_first; }) == "opened");
  CHECK(code_of([&](PointSource& s) { s.lsn = last_of_first + 1; }) == "POINT_UNKNOWN");  // never used
  CHECK(code_of([&](PointSource& s) { s.lsn = scene.history.steps.back().lsn + 1; }) == "POINT_UNKNOWN");
  CHECK(code_of([&](PointSource& s) {  // a segment is missing in the middle of a generation
          s.lsn = scene.history.steps.back().lsn;
          const auto missing = s.tiles.end() - 2;
          REQUIRE((missing - 1)->segment.generation == (missing + 1)->segment.generation);
          s.tiles.erase(missing);
        }) == "POINT_UNKNOWN");
  CHECK(code_of([](PointSource& s) { s.base_path += ".gone"; }) == "BASE_MISSING");
  CHECK(code_of([](PointSource& s) { s.tiles[0].segment.path += ".gone"; }) == "IO_ERROR");
  CHECK(code_of([](PointSource& s) { s.tiles[0].run_path = "/nowhere.run"; }) == "opened");
  Bytes damaged = read_file(scene.journal.segments.begin()->second.path);
  damaged[kSegmentHeaderBytes + 200] ^= std::byte{1};
  write_file(scene.journal.segments.begin()->second.path, damaged);
  CHECK(code_of([](PointSource&) {}) == "SEGMENT_CORRUPT");
  damaged.resize(damaged.size() - 8);
  write_file(scene.journal.segments.begin()->second.path, damaged);
  CHECK(code_of([](PointSource&) {}) == "SEGMENT_CORRUPT");
}

TEST_CASE("a read that needs damaged bytes fails, and no read shows any") {
  const Scene scene(kSmallWrites);
  scene.build_runs(Runs::kAll);
  const SegmentInfo& info = scene.journal.segments.begin()->second;
  const uint64_t lsn = info.last_lsn;
  uint64_t size = scene.history.volume(3).size;
  Bytes image = scene.bases.at(3);
  for (const HistoryStep& step : scene.history.steps)
    if (step.lsn <= lsn) scene.history.apply(step, 3, &image, &size);
  const Bytes whole = read_file(info.path);
  Random random(9);
  uint64_t failed = 0;
  for (int round = 0; round < (kIsSampled ? 2 : 12); ++round) {
    Bytes altered = whole;
    const uint64_t at = kSegmentHeaderBytes + random() % (altered.size() - kSegmentHeaderBytes);
    altered[at] ^= std::byte{1} << random() % 8;
    write_file(info.path, altered);
    const auto device = PointInTimeDevice::open(scene.source(3, lsn, size, Runs::kAll));
    REQUIRE(device.ok());  // its run does not look into the segment
    Bytes block(4096);
    for (uint64_t offset = 0; offset + block.size() <= size; offset += block.size()) {
      const Errno error = (*device)->read(offset, block.size(), block.data());
      if (error != 0) ++failed;
      if (error != 0) CHECK(error == EBADMSG);
      if (error == 0) CHECK(std::memcmp(block.data(), image.data() + offset, block.size()) == 0);
    }
  }
  CHECK(failed > 0);
}

TEST_CASE("allocation tells the holes of the base and what was zeroed, and no more") {
  const Scene scene(kSmallWrites);
  scene.build_runs(Runs::kAll);
  const uint64_t lsn = scene.history.steps.back().lsn;
  uint64_t size = scene.history.volume(3).size;
  // Per sector: 1 where data was written last, 0 where nothing or a zero was.
  std::vector<int> data(scene.history.image_bytes(3) / 512);
  for (const uint64_t at : {uint64_t{0}, uint64_t{1} << 20})
    std::fill_n(data.begin() + static_cast<int64_t>(at / 512), (300 << 10) / 512, 1);
  for (const HistoryStep& step : scene.history.steps) {
    if (step.record.volume != 3) continue;
    const auto begin = data.begin() + static_cast<int64_t>(step.record.offset / 512);
    if (step.record.kind == RecordKind::kResize) size = step.record.offset;
    if (step.record.kind == RecordKind::kResize) std::fill(begin, data.end(), 0);
    if (step.record.kind == RecordKind::kWrite) std::fill_n(begin, step.record.length / 512, 1);
    if (step.record.kind == RecordKind::kZero) std::fill_n(begin, step.record.length / 512, 0);
  }
  const auto device = PointInTimeDevice::open(scene.source(3, lsn, size, Runs::kAll));
  REQUIRE(device.ok());
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    const uint64_t offset = round == 0 ? 0 : random() % size;
    const uint64_t length = round == 0 ? size : 1 + random() % (size - offset);
    std::vector<AllocationExtent> extents;
    REQUIRE((*device)->allocation(offset, length, &extents) == 0);
    uint64_t at = offset;
    for (const AllocationExtent& extent : extents) {
      CHECK(extent.hole == extent.zero);
      for (uint64_t sector = at / 512; sector < (at + extent.length + 511) / 512; ++sector)
        REQUIRE(data[sector] == (extent.hole ? 0 : 1));
      at += extent.length;
    }
    CHECK(at == offset + length);
  }
}

TEST_CASE("a point in time keeps the contract of BlockDevice") {
  if (kIsSampled) return;
  JournalHistory::Options options = kSmallWrites;
  options.resizes = false;
  const Scene scene(options);
  scene.build_runs(Runs::kAll);
  for (const uint16_t volume : {3, 60}) {
    check_block_device_contract("point in time", [&](uint64_t size) -> std::shared_ptr<BlockDevice> {
      auto device =
          PointInTimeDevice::open(scene.source(volume, scene.history.steps.back().lsn, size, Runs::kAll));
      return device.ok() ? std::shared_ptr<BlockDevice>(std::move(*device)) : nullptr;
    });
  }
}
