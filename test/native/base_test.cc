#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include "block_device_contract.h"
#include "device/base_reader.h"
#include "device/base_writer.h"
#include "device/point_in_time_device.h"
#include "journal_history.h"
#include "scratch_files.h"

using namespace afterimage;

namespace {

constexpr uint64_t kBlock = kBaseBlockBytes;
/// Beyond one page of checksums, and not whole blocks.
constexpr uint64_t kSize = 200 * kBlock + 512;

struct Base {
  ScratchDirectory directory;
  std::string path = directory.make_file("a.img", kSize);
  std::string sums = directory.path("a.sum");
  Random random{7};

  std::unique_ptr<BaseWriter> writer() const {
    auto opened = BaseWriter::open(path);
    REQUIRE(opened.ok());
    return std::move(*opened);
  }
  std::unique_ptr<BaseReader> reader() const {
    auto opened = BaseReader::open(path, kSize);
    REQUIRE(opened.ok());
    return std::move(*opened);
  }
  /// Settled all over, with data in its first half.
  void fill() {
    auto base = writer();
    const Bytes data = random_bytes(random, kSize / 2);
    REQUIRE(base->write(0, data.size(), data.data(), {}) == 0);
    REQUIRE(base->flush() == 0);
    REQUIRE(base->complete() == 0);
  }
};

void flip(const std::string& path, uint64_t at) {
  Bytes bytes = read_file(path);
  bytes[at] ^= std::byte{4};
  write_file(path, bytes);
}

Errno read_block(BaseReader& reader, uint64_t block) {
  Bytes into(512);
  return reader.read(block * kBlock + 1024, into.size(), into.data());
}

}  // namespace

TEST_CASE("a base with its checksums is a block device") {
  const ScratchDirectory directory;
  int count = 0;
  check_block_device_contract("base", [&](uint64_t size) -> std::shared_ptr<BlockDevice> {
    auto writer = BaseWriter::open(directory.make_file(std::to_string(count++) + ".img", size));
    REQUIRE(writer.ok());
    return std::move(*writer);
  });
}

TEST_CASE("a block of a base that is not what was written is never given out, and all others are") {
  Base base;
  base.fill();
  const Bytes content = read_file(base.path);
  CHECK(base.reader()->scrub(0, kSize).unsummed == 0);
  for (const uint64_t block : {0ull, 77ull, 150ull, 200ull}) {  // data, data, a hole, the short end
    INFO("block " << block);
    flip(base.path, block * kBlock + (block == 200 ? 3 : 7000));
    const auto reader = base.reader();
    for (uint64_t other = 0; other < 200; ++other)
      CHECK(read_block(*reader, other) == (other == block ? EBADMSG : 0));
    Bytes into(kSize);
    CHECK(reader->read(0, kSize, into.data()) == EBADMSG);
    CHECK(reader->bad_offsets() == std::vector<uint64_t>{block * kBlock});
    const auto scrubbed = base.reader();
    CHECK(scrubbed->scrub(0, kSize + kBlock).is_end);
    CHECK(scrubbed->bad_offsets() == std::vector<uint64_t>{block * kBlock});
    write_file(base.path, content);
  }
  Bytes into(kSize);
  CHECK(base.reader()->read(0, kSize, into.data()) == 0);
  CHECK(into == content);
}

TEST_CASE("a base is settled with what was written last, by whatever pieces and however many at once") {
  for (const auto cache : {FileDevice::Cache::kBuffered, FileDevice::Cache::kDirect}) {
    Base base;
    Bytes content(kSize);
    {
      auto opened = BaseWriter::open(base.path, cache);
      REQUIRE(opened.ok());
      auto& writer = **opened;
      const auto write = [&](uint64_t offset, uint64_t length) {
        const Bytes data = random_bytes(base.random, length);
        std::copy(data.begin(), data.end(), content.begin() + static_cast<int64_t>(offset));
        REQUIRE(writer.write(offset, length, data.data(), {}) == 0);
      };
      write(0, 4 * kBlock);
      write(kBlock + 512, 512);         // into one that was written wholly
      write(3 * kBlock, kBlock);        // over one
      write(9 * kBlock + 512, kBlock);  // a part of two
      write(200 * kBlock, 512);         // the short end
      write(20 * kBlock, kBlock);
      REQUIRE(writer.zero(20 * kBlock, kBlock, {}) == 0);
      std::fill_n(content.begin() + 20 * kBlock, kBlock, std::byte{0});

      const Bytes data = random_bytes(base.random, 100 * kBlock);
      std::copy(data.begin(), data.end(), content.begin() + 30 * kBlock);
      std::vector<std::thread> threads;
      std::atomic<int> failed = 0;
      for (uint64_t first = 0; first < 4; ++first)
        threads.emplace_back([&, first] {
          for (uint64_t block = first; block < 100; block += 4)
            failed += writer.write((30 + block) * kBlock, kBlock, &data[block * kBlock], {}) != 0;
        });
      for (std::thread& thread : threads) thread.join();
      CHECK(failed == 0);
      REQUIRE(writer.flush() == 0);
    }
    CHECK(base.reader()->scrub(0, kSize).unsummed == 201 - 4 - 2 - 1 - 1 - 100);
    REQUIRE(base.writer()->complete() == 0);
    const auto reader = base.reader();
    CHECK(reader->scrub(0, kSize).unsummed == 0);
    CHECK(reader->bad_offsets().empty());
    Bytes there(kSize);
    REQUIRE(reader->read(0, kSize, there.data()) == 0);
    CHECK(there == content);
  }
}

TEST_CASE("a base that was cut short is damaged, and not zero") {
  Base base;
  base.fill();
  std::filesystem::resize_file(base.path, 20 * kBlock);
  const auto reader = base.reader();
  CHECK(read_block(*reader, 19) == 0);
  CHECK(read_block(*reader, 20) == EBADMSG);
  CHECK(read_block(*reader, 90) == EBADMSG);
  CHECK(read_block(*reader, 150) == 0);  // it was zero
  CHECK(base.reader()->scrub(0, kSize + kBlock).is_end);
}

TEST_CASE("a base that grows keeps its checksums: what lies beyond the end is zero before and after") {
  Base base;
  base.fill();
  std::filesystem::resize_file(base.path, kSize + 3 * kBlock);
  const auto reader = base.reader();
  CHECK(read_block(*reader, 200) == 0);
  CHECK(read_block(*reader, 202) == 0);
  CHECK(reader->bad_offsets().empty());
}

// Symptom, were it so: a roll-forward that ended between its bytes and their checksums left blocks that are
// called damaged though nothing is lost. A copy of both files at any moment is what a crash may leave.
TEST_CASE("wherever writing ends, each block is right or has no checksum") {
  Base base;
  base.fill();
  Random random(3);
  for (int round = 0; round < 40; ++round) {
    auto writer = base.writer();
    const int steps = 1 + static_cast<int>(random() % 6);
    for (int step = 0; step < steps; ++step) {
      const uint64_t offset = random() % (kSize - 1) / 512 * 512;
      const uint64_t length = std::min<uint64_t>(kSize - offset, 512 * (1 + random() % 700));
      const Bytes data = random_bytes(random, length);
      if (step % 3 == 2)
        REQUIRE(writer->zero(offset, length, {}) == 0);
      else
        REQUIRE(writer->write(offset, length, data.data(), {}) == 0);
      if (random() % 4 == 0) REQUIRE(writer->flush() == 0);
      const auto reader = base.reader();
      reader->scrub(0, kSize + kBlock);
      REQUIRE(reader->bad_offsets().empty());
    }
    if (round % 2 == 0) REQUIRE(writer->flush() == 0);
  }
  REQUIRE(base.writer()->complete() == 0);
  const auto reader = base.reader();
  CHECK(reader->scrub(0, kSize + kBlock).unsummed == 0);
  CHECK(reader->bad_offsets().empty());
}

TEST_CASE("ranges that are prepared together are written without another sync, and settle") {
  Base base;
  base.fill();
  flip(base.path, 30 * kBlock + 9000);
  auto writer = base.writer();
  const BaseWriter::Range ranges[] = {
      {10 * kBlock + 512, 3 * kBlock}, {30 * kBlock, 512}, {150 * kBlock, kBlock}};
  REQUIRE(writer->prepare(ranges) == 0);
  CHECK(base.reader()->scrub(0, kSize).unsummed == 4 + 1 + 1);
  const Bytes sums = read_file(base.sums);
  const Bytes data = random_bytes(base.random, 3 * kBlock);
  for (const auto& [offset, length] : ranges) REQUIRE(writer->write(offset, length, data.data(), {}) == 0);
  CHECK(read_file(base.sums) == sums);
  REQUIRE(writer->flush() == 0);
  const auto reader = base.reader();
  CHECK(reader->scrub(0, kSize).unsummed == 0);
  CHECK(reader->bad_offsets() == std::vector<uint64_t>{30 * kBlock});
}

TEST_CASE("damage is not made right by writing beside it, only by writing over it") {
  Base base;
  base.fill();
  flip(base.path, 5 * kBlock + 9000);
  flip(base.path, 6 * kBlock + 9000);
  const Bytes data = random_bytes(base.random, kBlock);
  {
    auto writer = base.writer();
    REQUIRE(writer->write(5 * kBlock, 512, data.data(), {}) == 0);
    REQUIRE(writer->write(6 * kBlock, kBlock, data.data(), {}) == 0);
    REQUIRE(writer->flush() == 0);
  }
  CHECK(read_block(*base.reader(), 5) == EBADMSG);
  CHECK(read_block(*base.reader(), 6) == 0);
  {
    auto writer = base.writer();
    REQUIRE(writer->write(5 * kBlock + 512, 512, data.data(), {}) == 0);
    REQUIRE(writer->flush() == 0);
  }
  CHECK(read_block(*base.reader(), 5) == EBADMSG);
  {
    auto writer = base.writer();
    REQUIRE(writer->write(5 * kBlock, kBlock, data.data(), {}) == 0);
    REQUIRE(writer->flush() == 0);
  }
  CHECK(read_block(*base.reader(), 5) == 0);
}

TEST_CASE("checksums that are damaged themselves say nothing, and are no damage of the base") {
  Base base;
  base.fill();
  const Bytes sums = read_file(base.sums);
  flip(base.sums, kSumPageBytes + 100);
  auto reader = base.reader();
  CHECK(reader->scrub(0, kSize).unsummed == kSumsPerPage);
  CHECK(reader->bad_offsets().empty());
  for (const uint64_t at : {0ull, 9ull, 16ull, 500ull}) {
    write_file(base.sums, sums);
    flip(base.sums, at);
    CHECK_FALSE(base.reader()->has_sums());
    Bytes into(512);
    CHECK(base.reader()->read(0, 512, into.data()) == 0);
  }
  // Nobody believes the entries behind a header that was made anew.
  REQUIRE(base.writer()->complete() == 0);
  reader = base.reader();
  CHECK(reader->has_sums());
  CHECK(reader->scrub(0, kSize).unsummed == 0);
  CHECK(reader->bad_offsets().empty());
  std::filesystem::remove(base.sums);
  CHECK_FALSE(base.reader()->has_sums());
}

TEST_CASE("checksums that were lost are made anew range by range, and those that are there stay") {
  Base base;
  base.fill();
  flip(base.path, 150 * kBlock);
  flip(base.sums, kSumPageBytes + 100);
  REQUIRE(base.reader()->scrub(0, kSize).unsummed == kSumsPerPage);
  uint64_t blocks = 0;
  REQUIRE(base.writer()->sum(16 * kBlock, 16 * kBlock, &blocks) == 0);
  CHECK(blocks == 16);
  CHECK(base.reader()->scrub(0, kSize).unsummed == kSumsPerPage - 16);
  REQUIRE(base.writer()->sum(0, UINT64_MAX, &blocks) == 0);
  CHECK(blocks == kSumsPerPage - 16);
  REQUIRE(base.writer()->sum(0, kSize, &blocks) == 0);
  CHECK(blocks == 0);
  const auto reader = base.reader();
  CHECK(reader->scrub(0, kSize).unsummed == 0);
  CHECK(reader->bad_offsets() == std::vector<uint64_t>{150 * kBlock});
  REQUIRE(base.writer()->sum(kSize + kBlock, kBlock, &blocks) == 0);
  CHECK(blocks == 0);
}

TEST_CASE("a point shows what records wrote over a damaged block of its base, and nothing of the block") {
  Base base;
  base.fill();
  const Bytes content = read_file(base.path);
  flip(base.path, 3 * kBlock + 9000);
  const auto point =
      PointInTimeDevice::open({.base_path = base.path, .size = kSize, .volume = 0, .lsn = 0, .tiles = {}});
  REQUIRE(point.ok());
  Bytes into(kBlock);
  CHECK((*point)->read(3 * kBlock, 512, into.data()) == EBADMSG);
  CHECK((*point)->read(4 * kBlock + 512, kBlock, into.data()) == 0);
  CHECK(std::equal(into.begin(), into.end(), content.begin() + static_cast<int64_t>(4 * kBlock + 512)));
  CHECK((*point)->bad_base_offsets() == std::vector<uint64_t>{3 * kBlock});
}
