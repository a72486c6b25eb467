#include "device/overlay_device.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "block_device_contract.h"
#include "scratch_files.h"

namespace afterimage {
namespace {

std::shared_ptr<BlockDevice> open_lower(const std::string& path) {
  auto lower = FileDevice::open(path, {.read_only = true});
  REQUIRE(lower.ok());
  return std::move(*lower);
}

std::shared_ptr<OverlayDevice> overlay(std::shared_ptr<BlockDevice> lower,
                                       const ScratchDirectory& directory) {
  auto device = OverlayDevice::create(std::move(lower), directory.path(""));
  REQUIRE_MESSAGE(device.ok(), (device.ok() ? "" : device.error().message));
  return std::move(*device);
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("an overlay keeps the contract of BlockDevice, over data and over holes") {
  const ScratchDirectory directory;
  check_block_device_contract("overlay over data", [&](uint64_t size) {
    return overlay(open_lower(directory.make_random_file("lower", size)), directory);
  });
  check_block_device_contract("overlay over holes", [&](uint64_t size) {
    return overlay(open_lower(directory.make_file("lower", size)), directory);
  });
}

TEST_CASE("whatever is done to an overlay, its lower device is untouched and no file is left") {
  const ScratchDirectory directory;
  const std::string path = directory.make_random_file("lower", (1 << 20) + 512);
  const std::string before = content_of(path);
  {
    const auto device = overlay(open_lower(path), directory);
    const std::vector<std::byte> data(70000, std::byte{3});
    CHECK(device->write(1000, data.size(), data.data(), {.fua = true}) == 0);
    CHECK(device->zero(200000, 300001, {}) == 0);
    CHECK(device->trim(device->size() - 777, 777, {}) == 0);
    CHECK(device->flush() == 0);
  }
  CHECK(content_of(path) == before);
  const auto entries = std::filesystem::directory_iterator(directory.path(""));
  CHECK(std::distance(begin(entries), end(entries)) == 1);
}

TEST_CASE("an overlay tells holes from data, whichever of the two holds them") {
  const ScratchDirectory directory;
  constexpr uint64_t kBlock = kOverlayBlockBytes;
  const std::string path = directory.make_file("lower", 64 * kBlock);
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file << std::string(4 * kBlock, 'x');  // blocks 0 to 3 are data, the others a hole
  }
  const auto device = overlay(open_lower(path), directory);
  if (!device->can_fast_zero()) return;  // a file system without holes
  const std::vector<std::byte> data(kBlock, std::byte{3});
  CHECK(device->write(32 * kBlock, kBlock, data.data(), {}) == 0);
  CHECK(device->trim(kBlock, kBlock, {}) == 0);
  std::vector<AllocationExtent> extents;
  CHECK(device->allocation(0, device->size(), &extents) == 0);
  CHECK(extents == std::vector<AllocationExtent>{{kBlock, false, false},
                                                 {kBlock, true, true},
                                                 {2 * kBlock, false, false},
                                                 {28 * kBlock, true, true},
                                                 {kBlock, false, false},
                                                 {31 * kBlock, true, true}});
}

TEST_CASE("an overlay without a place for its scratch is refused") {
  const ScratchDirectory directory;
  const auto device =
      OverlayDevice::create(open_lower(directory.make_file("lower", 4096)), directory.path("missing"));
  REQUIRE(!device.ok());
  CHECK(std::string(device.error().code) == "SCRATCH_UNAVAILABLE");
}

}  // namespace afterimage
