#include "block_device_contract.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace afterimage {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kEvenBytes = 1 << 20;
constexpr uint64_t kOddBytes = (1 << 20) + 3 * kSectorBytes;  // ends inside a 4 KiB block

uint64_t seed_of_run() {
  const char* given = std::getenv("AFTERIMAGE_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20240229;
}

/// Names the device, the seed and the step in the first line of a failure.
struct Scene {
  const char* device;
  uint64_t seed;
  std::string at(const std::string& step) const {
    return std::string(device) + ", AFTERIMAGE_TEST_SEED=" + std::to_string(seed) + ", " + step;
  }
};

Bytes read_all(BlockDevice& device) {
  Bytes content(device.size());
  REQUIRE(device.read(0, content.size(), content.data()) == 0);
  return content;
}

Bytes random_bytes(std::mt19937_64& random, uint64_t length) {
  Bytes bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// Index of the first difference, or -1. (Comparing by doctest would print megabytes.)
int64_t first_difference(const std::byte* a, const std::byte* b, uint64_t length) {
  const auto [at, unused] = std::mismatch(a, a + length, b);
  return at == a + length ? -1 : at - a;
}

/// A range like those that clients send: mostly within one or two blocks of an edge, sometimes aligned,
/// sometimes long.
std::pair<uint64_t, uint64_t> random_range(std::mt19937_64& random, uint64_t size) {
  const std::array<uint64_t, 5> most = {16, 700, 4096, 20000, size};
  uint64_t length = random() % most[random() % most.size()];
  uint64_t offset = random() % (size + 1);
  if (random() % 3 == 0) {
    const uint64_t unit = random() % 2 == 0 ? 512 : 4096;
    length = length / unit * unit;
    offset = offset / unit * unit;
  }
  if (random() % 8 == 0) offset = size - std::min(size, length);  // the end is where devices go wrong
  return {offset, std::min(length, size - offset)};
}

void check_refusals(BlockDevice& device, const Scene& scene) {
  const uint64_t size = device.size();
  const bool read_only = device.read_only();
  const Bytes before = read_all(device);
  Bytes buffer(2 * kSectorBytes, std::byte{0x5a});
  struct Range {
    uint64_t offset, length;
  };
  for (const Range& range :
       {Range{size, 1}, Range{size - 1, 2}, Range{size - 512, 1024}, Range{size + 1, 0}, Range{UINT64_MAX, 1},
        Range{UINT64_MAX - 511, 1024}, Range{uint64_t{1} << 63, 512}}) {
    const std::string at =
        scene.at("offset " + std::to_string(range.offset) + " length " + std::to_string(range.length));
    CHECK_MESSAGE(device.read(range.offset, range.length, buffer.data()) == EINVAL, at);
    const Errno write_error = device.write(range.offset, range.length, buffer.data(), {});
    const Errno zero_error = device.zero(range.offset, range.length, {});
    const Errno trim_error = device.trim(range.offset, range.length, {});
    CHECK_MESSAGE(write_error == (read_only ? EPERM : ENOSPC), at);
    CHECK_MESSAGE(zero_error == (read_only ? EPERM : ENOSPC), at);
    CHECK_MESSAGE(trim_error == (read_only ? EPERM : EINVAL), at);
    std::vector<AllocationExtent> extents;
    CHECK_MESSAGE(device.allocation(range.offset, range.length, &extents) == EINVAL, at);
  }
  // Lengths near 2^64 are only safe to pass where no buffer goes with them.
  CHECK_MESSAGE(device.zero(512, UINT64_MAX - 100, {}) == (read_only ? EPERM : ENOSPC), scene.at("overflow"));
  CHECK_MESSAGE(device.trim(512, UINT64_MAX - 100, {}) == (read_only ? EPERM : EINVAL), scene.at("overflow"));
  CHECK_MESSAGE(first_difference(read_all(device).data(), before.data(), size) == -1,
                scene.at("a refused request touched the device"));
}

void check_nothing_to_do(BlockDevice& device, const Scene& scene) {
  std::byte unused{};
  for (const uint64_t offset : {uint64_t{0}, uint64_t{513}, device.size()}) {
    const std::string at = scene.at("length 0 at " + std::to_string(offset));
    CHECK_MESSAGE(device.read(offset, 0, &unused) == 0, at);
    if (!device.read_only()) {
      CHECK_MESSAGE(device.write(offset, 0, &unused, {}) == 0, at);
      CHECK_MESSAGE(device.zero(offset, 0, {}) == 0, at);
      CHECK_MESSAGE(device.trim(offset, 0, {}) == 0, at);
    }
    std::vector<AllocationExtent> extents(1);
    CHECK_MESSAGE(device.allocation(offset, 0, &extents) == 0, at);
    CHECK_MESSAGE(extents.empty(), at);
  }
  CHECK_MESSAGE(device.flush() == 0, scene.at("flush"));
}

void check_allocation(BlockDevice& device, const Bytes& model, uint64_t offset, uint64_t length,
                      const std::string& at) {
  std::vector<AllocationExtent> extents(3);  // what was there before is no part of the answer
  REQUIRE_MESSAGE(device.allocation(offset, length, &extents) == 0, at);
  uint64_t covered = 0;
  for (size_t i = 0; i < extents.size(); ++i) {
    const AllocationExtent& extent = extents[i];
    REQUIRE_MESSAGE((extent.length > 0 && extent.length <= length - covered), at << ": extent " << i);
    if (i > 0) {
      const bool differs = extent.hole != extents[i - 1].hole || extent.zero != extents[i - 1].zero;
      CHECK_MESSAGE(differs, at << ": extents " << i - 1 << " and " << i << " are of one kind");
    }
    if (extent.zero)
      CHECK_MESSAGE(is_zero(model.data() + offset + covered, extent.length),
                    at << ": extent " << i << " is not zero");
    covered += extent.length;
  }
  CHECK_MESSAGE(covered == length, at);
}

void check_random_history(BlockDevice& device, uint64_t operations, const Scene& scene) {
  std::mt19937_64 random(scene.seed);
  Bytes model = read_all(device);
  const uint64_t size = model.size();
  for (uint64_t step = 0; step < operations; ++step) {
    const auto [offset, length] = random_range(random, size);
    const std::string at = scene.at("step " + std::to_string(step) + " offset " + std::to_string(offset) +
                                    " length " + std::to_string(length));
    std::byte* const place = model.data() + offset;
    switch (device.read_only() ? 7 : random() % 10) {
      case 0:
      case 1:
      case 2:
      case 3: {
        // One spare byte in front, so that the buffer too is at any alignment.
        const uint64_t shift = random() % 2;
        Bytes data = random_bytes(random, length + shift);
        const RequestOptions options{.fua = random() % 40 == 0};
        REQUIRE_MESSAGE(device.write(offset, length, data.data() + shift, options) == 0, "write: " << at);
        std::copy_n(data.data() + shift, length, place);
        break;
      }
      case 4: {
        const RequestOptions options{
            .fua = random() % 20 == 0, .no_hole = random() % 2 == 0, .fast_only = random() % 3 == 0};
        const Errno error = device.zero(offset, length, options);
        if (options.fast_only && error == ENOTSUP) break;  // and untouched: the next comparison sees to that
        REQUIRE_MESSAGE(error == 0, "zero: " << at);
        std::fill_n(place, length, std::byte{0});
        break;
      }
      case 5:
        REQUIRE_MESSAGE(device.trim(offset, length, {.fua = random() % 20 == 0}) == 0, "trim: " << at);
        std::fill_n(place, length, std::byte{0});
        break;
      case 6:
        if (step % 8 == 0) REQUIRE_MESSAGE(device.flush() == 0, "flush: " << at);
        check_allocation(device, model, offset, length, "allocation: " + at);
        break;
      default: {
        const uint64_t shift = random() % 2;
        Bytes data(length + shift, std::byte{0xee});
        REQUIRE_MESSAGE(device.read(offset, length, data.data() + shift) == 0, "read: " << at);
        const int64_t difference = first_difference(data.data() + shift, place, length);
        REQUIRE_MESSAGE(difference == -1, "read: " << at);
      }
    }
  }
  const int64_t difference = first_difference(read_all(device).data(), model.data(), size);
  CHECK_MESSAGE(difference == -1, scene.at("whole device after the history"));
  check_allocation(device, model, 0, size, scene.at("whole device"));
}

/// Writers that share blocks but no byte must not undo each other: what read-modify-write and copy-on-write
/// get wrong without a lock. Each owns a quarter of every 1000 bytes, so that their edges fall inside sectors
/// too. They meet at each place of a fresh device at the same moment, since some devices treat only the first
/// write of a block so.
void check_neighbours_in_one_block(BlockDevice& device, const Scene& scene) {
  constexpr uint64_t kWriters = 4, kOwned = 250, kPlaces = 100, kStride = 9000, kVisits = 2;
  REQUIRE(kPlaces * kStride <= device.size());
  Bytes model = read_all(device);
  std::array<Bytes, kWriters> values;  // what each writer left at each place
  std::atomic<int> mistakes{0};
  std::barrier meeting(kWriters);
  std::vector<std::thread> writers;
  for (uint64_t writer = 0; writer < kWriters; ++writer) {
    values[writer].resize(kPlaces);
    writers.emplace_back([&, writer] {
      std::mt19937_64 random(scene.seed + writer);
      for (uint64_t visit = 0; visit < kVisits * kPlaces; ++visit) {
        const uint64_t place = visit % kPlaces;
        const uint64_t offset = place * kStride + writer * kOwned;
        const bool zero = random() % 4 == 0;
        const auto value = zero ? std::byte{0} : static_cast<std::byte>(random());
        values[writer][place] = value;
        const Bytes data(kOwned, value);
        meeting.arrive_and_wait();
        const Errno error =
            zero ? device.zero(offset, kOwned, {}) : device.write(offset, kOwned, data.data(), {});
        Bytes back(kOwned);
        if (error != 0 || device.read(offset, kOwned, back.data()) != 0 || back != data) ++mistakes;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK_MESSAGE(mistakes == 0, scene.at("a writer did not read back its own bytes"));
  for (uint64_t place = 0; place < kPlaces; ++place)
    for (uint64_t writer = 0; writer < kWriters; ++writer)
      std::fill_n(model.data() + place * kStride + writer * kOwned, kOwned, values[writer][place]);
  CHECK_MESSAGE(first_difference(read_all(device).data(), model.data(), model.size()) == -1,
                scene.at("neighbours in one block"));
}

}  // namespace

void check_block_device_contract(const char* name, const MakeBlockDevice& make) {
  const Scene scene{name, seed_of_run()};
  for (const uint64_t size : {kEvenBytes, kOddBytes}) {
    std::shared_ptr<BlockDevice> device = make(size);
    REQUIRE(device != nullptr);
    const uint32_t block = device->block_size();
    const bool known_block = block == 512 || block == 4096;
    REQUIRE_MESSAGE(known_block, scene.at("block size"));
    REQUIRE_MESSAGE(device->size() == size / block * block, scene.at("size"));
    check_nothing_to_do(*device, scene);
    check_refusals(*device, scene);
    check_random_history(*device, 400, scene);
    if (device->read_only()) continue;
    device.reset();
    device = make(size);
    check_neighbours_in_one_block(*device, scene);
  }
}

}  // namespace afterimage
