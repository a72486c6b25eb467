#include "device/file_device.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "block_device_contract.h"
#include "prerequisite.h"
#include "scratch_files.h"

namespace afterimage {
namespace {

using Cache = FileDevice::Cache;

std::shared_ptr<FileDevice> open_device(const std::string& path, const FileDevice::Options& options) {
  auto device = FileDevice::open(path, options);
  REQUIRE_MESSAGE(device.ok(), (device.ok() ? "" : device.error().message));
  return std::move(*device);
}

std::string refusal(const std::string& path, const FileDevice::Options& options = {}) {
  const auto device = FileDevice::open(path, options);
  return device.ok() ? "opened" : device.error().code;
}

bool can_read_past_cache(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::byte into[512];
  return PastCache{}.read(fd.get(), 0, sizeof into, into) == 0;
}

/// What a program that shares nothing with FileDevice finds in the file.
std::vector<std::byte> content_of(const std::string& path, uint64_t offset, uint64_t length) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> content(length);
  REQUIRE(::pread(fd.get(), content.data(), length, static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(length));
  return content;
}

uint64_t allocated_bytes(const std::string& path) {
  struct stat file {};
  REQUIRE(::stat(path.c_str(), &file) == 0);
  return static_cast<uint64_t>(file.st_blocks) * 512;
}

}  // namespace

TEST_CASE("a file keeps the contract of BlockDevice, through the page cache and past it") {
  const ScratchDirectory directory;
  for (const Cache cache : {Cache::kBuffered, Cache::kDirect}) {
    check_block_device_contract(
        cache == Cache::kDirect ? "file, direct" : "file, buffered",
        [&](uint64_t size) { return open_device(directory.make_file("volume", size), {.cache = cache}); });
  }
}

TEST_CASE("a read-only file keeps the contract of a read-only BlockDevice") {
  const ScratchDirectory directory;
  check_block_device_contract("file, read-only", [&](uint64_t size) {
    return open_device(directory.make_random_file("volume", size), {.read_only = true});
  });
}

TEST_CASE(
    "a block device of 512 or 4096 byte sectors keeps the contract, through the page cache and past it") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  for (const uint32_t sector : {512u, 4096u}) {
    for (const Cache cache : {Cache::kDirect, Cache::kBuffered}) {
      std::unique_ptr<LoopDisk> disk;
      const std::string name =
          "loop disk of " + std::to_string(sector) + (cache == Cache::kDirect ? ", direct" : "");
      check_block_device_contract(name.c_str(), [&](uint64_t size) {
        disk.reset();
        disk = std::make_unique<LoopDisk>(directory.make_file("disk", size / sector * sector), sector);
        auto device = open_device(disk->path(), {.cache = cache});
        CHECK(device->block_size() == sector);
        CHECK(device->direct() == (cache == Cache::kDirect));
        return device;
      });
    }
  }
}

TEST_CASE("a backing that cannot be used is refused with the reason's code") {
  const ScratchDirectory directory;
  CHECK(refusal(directory.path("nothing")) == "BACKING_MISSING");
  CHECK(refusal(directory.make_file("file", 512) + "/below") == "BACKING_MISSING");
  CHECK(refusal(directory.path("")) == "BACKING_INVALID");
  CHECK(refusal("/dev/null") == "BACKING_INVALID");
  CHECK(refusal(directory.make_file("empty", 0)) == "BACKING_INVALID");
  CHECK(refusal(directory.make_file("odd", 1000)) == "BACKING_INVALID");
  REQUIRE(::mkfifo(directory.path("fifo").c_str(), 0600) == 0);
  CHECK(refusal(directory.path("fifo")) == "BACKING_INVALID");
}

TEST_CASE("a backing that grows is as large as it is when it is asked, and never smaller") {
  const ScratchDirectory directory;
  for (const Cache cache : {Cache::kBuffered, Cache::kDirect}) {
    const std::string path = directory.make_file("grows", 1 << 20);
    auto device = open_device(path, {.cache = cache});
    std::vector<std::byte> sector(4096, std::byte{7});
    std::filesystem::resize_file(path, (2 << 20) + 100);
    CHECK(std::string(device->remeasure().error().code) == "BACKING_INVALID");  // nor could it be opened so
    std::filesystem::resize_file(path, 2 << 20);
    CHECK(device->size() == 1 << 20);
    CHECK(device->write(2 << 20, 512, sector.data(), {}) == ENOSPC);
    CHECK(*device->remeasure() == 2 << 20);
    CHECK(device->size() == 2 << 20);
    CHECK(device->write((2 << 20) - 4096, 4096, sector.data(), {}) == 0);
    CHECK(content_of(path, (2 << 20) - 4096, 4096) == sector);
    std::filesystem::resize_file(path, 1 << 20);
    CHECK(*device->remeasure() == 1 << 20);
    CHECK(device->size() == 2 << 20);  // whoever has it told somebody of that
  }
}

TEST_CASE("a block device that grows is as large as it is when it is asked") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  const std::string path = directory.make_file("disk", 1 << 20);
  const LoopDisk disk(path, 512);
  auto device = open_device(disk.path(), {});
  std::filesystem::resize_file(path, 3 << 20);
  REQUIRE(std::system(("losetup -c " + disk.path()).c_str()) == 0);
  CHECK(device->size() == 1 << 20);
  CHECK(*device->remeasure() == 3 << 20);
  CHECK(device->size() == 3 << 20);
}

TEST_CASE(
    "a backing that was served is opened with the size that it had, and nothing behind that is touched") {
  const ScratchDirectory directory;
  const std::string path = directory.make_random_file("served", (2 << 20) + 1000);
  const auto before = content_of(path, 0, (2 << 20) + 1000);
  auto device = open_device(path, {.size = 1 << 20});
  CHECK(device->size() == 1 << 20);
  CHECK(content_of(path, 0, (2 << 20) + 1000) == before);
  CHECK_FALSE(device->remeasure().ok());
  CHECK(device->size() == 1 << 20);
  std::filesystem::resize_file(path, 4096);
  device.reset();
  CHECK(open_device(path, {.size = 1 << 20})->size() == 1 << 20);
}

TEST_CASE("nobody writes behind an exclusive opener of a file") {
  const ScratchDirectory directory;
  const std::string path = directory.make_file("volume", 4096);
  auto first = open_device(path, {});
  CHECK(refusal(path) == "BACKING_BUSY");
  CHECK(refusal(path, {.read_only = true}) == "BACKING_BUSY");
  CHECK(refusal(path, {.exclusive = false}) == "opened");
  first.reset();
  auto reader = open_device(path, {.read_only = true});
  CHECK(refusal(path, {.read_only = true}) == "opened");
  CHECK(refusal(path) == "BACKING_BUSY");
}

TEST_CASE("nobody writes behind an exclusive opener of a block device") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  const LoopDisk disk(directory.make_file("disk", 1 << 20), 512);
  auto first = open_device(disk.path(), {});
  CHECK(refusal(disk.path()) == "BACKING_BUSY");
  CHECK(refusal(disk.path(), {.exclusive = false}) == "opened");
}

TEST_CASE("a zeroed or trimmed range loses its blocks, and keeps them when no hole is wanted") {
  const ScratchDirectory directory;
  constexpr uint64_t kBytes = 1 << 20;
  const std::string path = directory.make_random_file("volume", kBytes);
  const auto device = open_device(path, {});
  if (!device->can_fast_zero()) return;  // a file system without holes
  REQUIRE(device->flush() == 0);
  const uint64_t full = allocated_bytes(path);
  CHECK(device->zero(0, kBytes / 2, {.no_hole = true}) == 0);
  CHECK(allocated_bytes(path) == full);
  CHECK(device->zero(0, kBytes / 2, {}) == 0);
  CHECK(allocated_bytes(path) < full);
  CHECK(device->trim(0, kBytes, {}) == 0);
  CHECK(allocated_bytes(path) == 0);
  CHECK(content_of(path, 0, kBytes) == std::vector<std::byte>(kBytes));
  std::vector<AllocationExtent> extents;
  CHECK(device->allocation(100, kBytes - 100, &extents) == 0);
  CHECK(extents == std::vector<AllocationExtent>{{kBytes - 100, true, true}});
  CHECK(device->write(kBytes / 2, 4096, std::vector<std::byte>(4096, std::byte{7}).data(), {}) == 0);
  CHECK(device->allocation(0, kBytes, &extents) == 0);
  CHECK(extents == std::vector<AllocationExtent>{
                       {kBytes / 2, true, true}, {4096, false, false}, {kBytes / 2 - 4096, true, true}});
}

TEST_CASE(
    "what was written with FUA or flushed past the page cache is what another program reads from the disk") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  const std::string file = directory.make_file("disk", 1 << 20);
  const LoopDisk disk(file, 512);
  const auto device =
      open_device(disk.path(), {});  // buffered: without a sync the file under the loop keeps zeroes
  const std::vector<std::byte> data(4096, std::byte{0x42});
  CHECK(device->write(8192, 4096, data.data(), {}) == 0);
  CHECK(content_of(file, 8192, 4096) != data);
  CHECK(device->flush() == 0);
  CHECK(content_of(file, 8192, 4096) == data);
  CHECK(device->write(65536, 4096, data.data(), {.fua = true}) == 0);
  CHECK(content_of(file, 65536, 4096) == data);
  CHECK(device->zero(65536, 2048, {.fua = true}) == 0);
  CHECK(is_zero(content_of(file, 65536, 2048).data(), 2048));
}

// A lost write-back is reported by the kernel once. If flush() forgot it, the next flush would succeed, and a
// file system above would count on data that the disk never got.
TEST_CASE("after a failed flush every later one fails until the device is reopened") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  // A sparse file of 8 MiB on a file system of 2 MiB: writes into the page cache succeed, write-back does
  // not.
  const SmallFileSystem small(directory.path("small"), 2 << 20);
  if (!small.mounted()) return;
  const std::string file = small.path() + "/disk";
  {
    const Fd fd(::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    REQUIRE(::ftruncate(fd.get(), 8 << 20) == 0);
  }
  const LoopDisk disk(file, 512);
  auto device = open_device(disk.path(), {});
  const std::vector<std::byte> data(4 << 20, std::byte{1});
  CHECK(device->flush() == 0);
  CHECK(device->write(0, data.size(), data.data(), {}) == 0);
  CHECK(device->flush() != 0);
  CHECK(device->flush() == EIO);
  CHECK(device->write(0, 512, data.data(), {.fua = true}) == EIO);
  device.reset();
  device = open_device(disk.path(), {});
  CHECK(device->write(0, 512, data.data(), {}) == 0);
  CHECK(device->flush() == 0);
}

// A page that could not be written back is clean, and read as if it were on the disk: what is compared with
// the receiver must be what the disk has.
TEST_CASE("what the page cache alone has is forgotten on demand, and nothing else is") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  const std::string file = directory.make_file("disk", 1 << 20);
  const LoopDisk disk(file, 512);
  const auto device = open_device(disk.path(), {.exclusive = false});
  const std::vector<std::byte> lost(4096, std::byte{1}), kept(4096, std::byte{2});
  std::vector<std::byte> read(4096);
  REQUIRE(device->write(0, lost.size(), lost.data(), {}) == 0);
  REQUIRE(device->flush() == 0);
  const Fd below(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::pwrite(below.get(), std::vector<std::byte>(4096).data(), 4096, 0) == 4096);
  REQUIRE(device->write(8192, kept.size(), kept.data(), {}) == 0);
  REQUIRE(device->read(0, read.size(), read.data()) == 0);
  CHECK(read == lost);
  device->forget_cached();
  REQUIRE(device->read(0, read.size(), read.data()) == 0);
  CHECK(is_zero(read.data(), read.size()));
  REQUIRE(device->read(8192, read.size(), read.data()) == 0);
  CHECK(read == kept);
}

TEST_CASE("what is read past the page cache is what was written last, and leaves nothing there") {
  const ScratchDirectory directory;
  const std::string path = directory.make_random_file("volume", 1 << 20);
  const auto cached_pages = [&] {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    void* const map = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, fd.get(), 0);
    std::vector<unsigned char> there(256);
    REQUIRE(::mincore(map, 1 << 20, there.data()) == 0);
    ::munmap(map, 1 << 20);
    return std::count_if(there.begin(), there.end(), [](unsigned char page) { return page & 1; });
  };
  NEEDS(can_read_past_cache(path), "Linux 6.14, for RWF_DONTCACHE");
  const auto device = open_device(path, {});
  device->forget_cached();
  REQUIRE(cached_pages() == 0);
  constexpr uint64_t kHalf = 512 << 10;
  alignas(4096) static std::byte read[kHalf];
  REQUIRE(device->read_past_cache(kHalf, kHalf, read) == 0);
  CHECK(std::memcmp(read, content_of(path, kHalf, kHalf).data(), kHalf) == 0);
  device->forget_cached();
  REQUIRE(device->read_past_cache(kHalf, kHalf, read) == 0);
  CHECK(cached_pages() == 0);

  const std::vector<std::byte> data(4096, std::byte{5});
  REQUIRE(device->write(8192, data.size(), data.data(), {}) == 0);
  REQUIRE(device->read_past_cache(8192, data.size(), read) == 0);
  CHECK(std::memcmp(read, data.data(), data.size()) == 0);
  // What direct I/O would not take.
  REQUIRE(device->read_past_cache(8192 + 512, 512, read + 1) == 0);
  CHECK(std::memcmp(read + 1, data.data(), 512) == 0);
  CHECK(device->read_past_cache(1 << 20, 512, read) == EINVAL);
}

TEST_CASE("a block device is read past the page cache too") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  const std::string file = directory.make_random_file("disk", 1 << 20);
  const LoopDisk disk(file, 512);
  const auto device = open_device(disk.path(), {});
  alignas(4096) static std::byte read[64 << 10];
  REQUIRE(device->read_past_cache(4096, sizeof read, read) == 0);
  CHECK(std::memcmp(read, content_of(file, 4096, sizeof read).data(), sizeof read) == 0);
  const std::vector<std::byte> data(512, std::byte{5});
  REQUIRE(device->write(512, data.size(), data.data(), {}) == 0);
  REQUIRE(device->read_past_cache(0, sizeof read, read) == 0);
  CHECK(std::memcmp(read + 512, data.data(), data.size()) == 0);
  REQUIRE(device->read_past_cache(512, 512, read + 1) == 0);  // not by direct I/O
  CHECK(std::memcmp(read + 1, data.data(), data.size()) == 0);
}

TEST_CASE("many flushes at once all succeed") {
  const ScratchDirectory directory;
  const auto device = open_device(directory.make_file("volume", 1 << 20), {});
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 4; ++thread)
    threads.emplace_back([&, thread] {
      const std::vector<std::byte> data(512, std::byte{9});
      for (int i = 0; i < 20; ++i)
        if (device->write(thread * 4096, 512, data.data(), {.fua = i % 4 == 0}) != 0 || device->flush() != 0)
          ++failures;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
}

}  // namespace afterimage
