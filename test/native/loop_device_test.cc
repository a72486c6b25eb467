#include "frontend/loop_device.h"

#include <doctest/doctest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "prerequisite.h"
#include "served_volume.h"

using namespace afterimage;
using namespace afterimage::test;

namespace {

#define REQUIRE_LOOP() NEEDS(can_attach(), "root, /dev/fuse and /dev/loop-control")

/// A file of 16 MiB, gone with its scope.
class BackingFile {
 public:
  BackingFile() : path_(directory_.path() + "/backing") {
    const Fd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(::ftruncate(fd.get(), 16 << 20) == 0);
  }
  ~BackingFile() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  TemporaryDirectory directory_;
  std::string path_;
};

/// Detaches at the end of its scope, whatever the test did.
struct DetachGuard {
  std::string device;
  ~DetachGuard() { static_cast<void>(detach_loop(device).ok()); }
};

bool is_attached(const std::string& device) {
  const Fd loop(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  loop_info64 status{};
  return loop && ::ioctl(loop.get(), LOOP_GET_STATUS64, &status) == 0;
}

FileIdentity identity_of(const std::string& path) {
  struct stat file {};
  REQUIRE(::stat(path.c_str(), &file) == 0);
  return {file.st_dev, file.st_ino};
}

std::string code_of(const Outcome& outcome) { return outcome.ok() ? "" : outcome.error().code; }

}  // namespace

TEST_CASE("an attached file is found under its loop device, and gone after detaching") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto device = attach_loop({.file = file.path()});
  REQUIRE(device.ok());
  const DetachGuard guard{*device};
  CHECK(is_attached(*device));
  CHECK(shell("losetup -n -O BACK-FILE " + *device).output == file.path() + "\n");
  CHECK(detach_loop(*device).ok());
  CHECK_FALSE(is_attached(*device));
  CHECK(code_of(detach_loop(*device)) == "LOOP_DETACH");
}

TEST_CASE("a loop device is known by its file, not by the file's path") {
  REQUIRE_LOOP();
  const BackingFile file, other;
  const auto device = attach_loop({.file = file.path()});
  REQUIRE(device.ok());
  const DetachGuard guard{*device};
  const auto is_over = [&device](const FileIdentity& identity) {
    const auto is = is_loop_over(*device, identity);
    REQUIRE(is.ok());
    return *is;
  };
  const FileIdentity ours = identity_of(file.path());
  CHECK(is_over(ours));
  CHECK_FALSE(is_over(identity_of(other.path())));
  REQUIRE(::unlink(file.path().c_str()) == 0);
  CHECK(is_over(ours));
  REQUIRE(detach_loop(*device).ok());
  CHECK_FALSE(is_over(ours));
}

TEST_CASE("a loop device becomes as large as its file has become") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto device = attach_loop({.file = file.path()});
  REQUIRE(device.ok());
  const DetachGuard guard{*device};
  CHECK(resize_loop(*device, file.path(), 16 << 20).ok());
  CHECK(code_of(resize_loop(*device, file.path(), 32 << 20)) == "DEVICE_RESIZE");
  REQUIRE(::truncate(file.path().c_str(), 32 << 20) == 0);
  CHECK(resize_loop(*device, file.path(), 32 << 20).ok());
  CHECK(shell("blockdev --getsize64 " + *device).output == "33554432\n");
  CHECK(code_of(resize_loop(*device, "/nowhere", 64 << 20)) == "DEVICE_RESIZE");
}

TEST_CASE("detaching is refused while the device is mounted, and it stays attached") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto device = attach_loop({.file = file.path()});
  REQUIRE(device.ok());
  const DetachGuard detach{*device};
  REQUIRE(shell("mkfs.ext4 -q " + *device).status == 0);
  const TemporaryDirectory mount_point;
  REQUIRE(shell("mount " + *device + " " + mount_point.path()).status == 0);
  {
    const MountGuard unmount(mount_point.path());
    CHECK(code_of(detach_loop(*device)) == "LOOP_BUSY");
    CHECK(shell("touch " + mount_point.path() + "/file && sync").status == 0);
  }
  CHECK(is_attached(*device));  // no lazy detach was left behind for the moment of unmounting
  CHECK(detach_loop(*device).ok());
}

TEST_CASE("detaching is refused while a program has it open, and does not happen when that closes") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto device = attach_loop({.file = file.path()});
  REQUIRE(device.ok());
  const DetachGuard guard{*device};
  {
    const Fd user(::open(device->c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(user);
    CHECK(code_of(detach_loop(*device)) == "LOOP_BUSY");
    CHECK(::pwrite(user.get(), "still here", 10, 0) == 10);
  }
  CHECK(is_attached(*device));
  CHECK(detach_loop(*device).ok());
}

TEST_CASE("detaching waits for an opener that only passes by") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto device = attach_loop({.file = file.path()});
  REQUIRE(device.ok());
  const DetachGuard guard{*device};
  Fd probe(::open(device->c_str(), O_RDONLY | O_CLOEXEC));
  std::thread passer([&probe] {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    probe.reset();
  });
  CHECK(detach_loop(*device).ok());
  passer.join();
}

TEST_CASE("files attached at the same moment get different devices") {
  REQUIRE_LOOP();
  const BackingFile file;
  constexpr int kCount = 4;
  std::vector<std::string> devices(kCount);
  std::vector<std::thread> threads;
  for (int i = 0; i < kCount; ++i)
    threads.emplace_back([&, i] {
      const auto device = attach_loop({.file = file.path(), .read_only = true});
      if (device.ok()) devices[static_cast<size_t>(i)] = *device;
    });
  for (auto& thread : threads) thread.join();
  std::vector<DetachGuard> guards;
  guards.reserve(kCount);
  for (const auto& device : devices) guards.push_back({device});
  const std::set<std::string> distinct(devices.begin(), devices.end());
  CHECK(distinct.size() == kCount);
  CHECK(distinct.count("") == 0);
}

TEST_CASE("a read-only attachment refuses writers") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto device = attach_loop({.file = file.path(), .read_only = true});
  REQUIRE(device.ok());
  const DetachGuard guard{*device};
  CHECK(shell("blockdev --getro " + *device).output == "1\n");
}

TEST_CASE("a missing file, an impossible block size and a missing device are told apart") {
  REQUIRE_LOOP();
  const BackingFile file;
  const auto missing = attach_loop({.file = file.path() + "-missing"});
  REQUIRE_FALSE(missing.ok());
  CHECK(std::string(missing.error().code) == "LOOP_ATTACH");
  CHECK(missing.error().sys == ENOENT);
  const auto odd = attach_loop({.file = file.path(), .block_size = 513});
  const DetachGuard guard{odd.ok() ? *odd : ""};
  REQUIRE_FALSE(odd.ok());
  CHECK(std::string(odd.error().code) == "LOOP_ATTACH");
  CHECK(std::string(is_loop_over("/dev/loop-none", {}).error().code) == "LOOP_DETACH");
  CHECK(code_of(detach_loop("/dev/loop-none")) == "LOOP_DETACH");
}
