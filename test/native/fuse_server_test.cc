// FuseServer under the real kernel, with a loop device over its file and real programs on that.
#include "frontend/fuse_server.h"

#include <doctest/doctest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "prerequisite.h"
#include "scratch_files.h"
#include "served_volume.h"

using namespace afterimage;
using namespace afterimage::test;

#define REQUIRE_ATTACH() NEEDS(can_attach(), "root, /dev/fuse and /dev/loop-control")

namespace {

constexpr uint64_t kSmall = 16u << 20;

void require_success(const std::string& command, int seconds = 30) {
  const ShellResult result = shell(command, seconds);
  INFO(command << "\n" << result.output);
  REQUIRE(result.status == 0);
}

void copy_device(BlockDevice& device, const std::string& path) {
  std::vector<std::byte> content(device.size());
  REQUIRE(device.read(0, content.size(), content.data()) == 0);
  const Fd file(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  REQUIRE(::write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
}

bool is_mounted(const std::string& path) { return shell("mountpoint -q " + path).status == 0; }

}  // namespace

TEST_CASE("a served file can be read, written, synced and punched, and nothing else") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(kSmall);
  const ServedVolume volume(device);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  const Fd file(::open(volume.file().c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(file);
  struct stat status {};
  REQUIRE(::fstat(file.get(), &status) == 0);
  CHECK(static_cast<uint64_t>(status.st_size) == kSmall);
  CHECK(status.st_mode == (S_IFREG | 0600));

  std::vector<char> page(4096, 'a'), found(4096);
  REQUIRE(::pwrite(file.get(), page.data(), page.size(), 100) == 4096);  // at any alignment
  REQUIRE(::pread(file.get(), found.data(), found.size(), 100) == 4096);
  CHECK(found == page);
  const uint64_t flushes = device->calls.flushes;
  REQUIRE(::fsync(file.get()) == 0);
  CHECK(device->calls.flushes == flushes + 1);
  REQUIRE(::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192) == 0);
  REQUIRE(::pread(file.get(), found.data(), found.size(), 100) == 4096);
  CHECK(found == std::vector<char>(4096, 0));

  CHECK(::ftruncate(file.get(), 0) == -1);
  CHECK(errno == EPERM);
  CHECK(::pwrite(file.get(), page.data(), page.size(), kSmall) == -1);
  CHECK(errno == ENOSPC);
  CHECK(::fallocate(file.get(), 0, 0, 4096) == -1);
  CHECK(errno == EOPNOTSUPP);
  CHECK(::open((volume.directory() + "/other").c_str(), O_CREAT | O_RDWR, 0600) == -1);
  CHECK(::unlink(volume.file().c_str()) == -1);
  CHECK(shell("ls -a " + volume.directory()).output == ".\n..\nvolume\n");
}

TEST_CASE("a write with O_DSYNC is made durable by the device") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(kSmall);
  const ServedVolume volume(device);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  const Fd file(::open(volume.file().c_str(), O_RDWR | O_DSYNC | O_CLOEXEC));
  REQUIRE(file);
  REQUIRE(::pwrite(file.get(), "x", 1, 0) == 1);
  CHECK(device->calls.fua_writes == 1);
}

TEST_CASE("nobody but root opens the file") {
  REQUIRE_ATTACH();
  const ServedVolume volume(std::make_shared<ScratchDevice>(kSmall));
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  CHECK(shell("setpriv --reuid=65534 --regid=65534 --clear-groups cat " + volume.file()).status != 0);
}

TEST_CASE("ext4 on the loop device survives use and unmounting") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(64u << 20);
  const ServedVolume volume(device);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  const TemporaryDirectory mount_point;
  const std::string at = mount_point.path();
  require_success("mkfs.ext4 -q " + volume.loop());
  {
    const MountGuard guard(at);
    require_success("mount " + volume.loop() + " " + at);
    require_success("seq 1 200000 > " + at + "/numbers && sync " + at + "/numbers && cp " + at + "/numbers " +
                    at + "/copy && rm " + at + "/numbers && fstrim " + at);
    CHECK(device->calls.flushes > 0);
    CHECK(device->calls.trims > 0);
    CHECK(device->calls.unaligned_payloads == 0);
    require_success("umount " + at);
  }
  require_success("e2fsck -fn " + volume.loop());
  // The oracle does not go through the server: the device's own bytes in a plain file, mounted by the kernel.
  const ScratchDirectory scratch;
  const std::string image = scratch.path("image");
  copy_device(*device, image);
  require_success("mount -o loop,ro " + image + " " + at);
  const MountGuard guard(at);
  CHECK(shell("sha256sum < " + at + "/copy").output == shell("seq 1 200000 | sha256sum").output);
}

TEST_CASE("xfs on a loop device of 4096-byte blocks survives use and unmounting") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(320u << 20, 4096);
  const ServedVolume volume(device);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  const TemporaryDirectory mount_point;
  const std::string at = mount_point.path();
  require_success("mkfs.xfs -q " + volume.loop());
  {
    const MountGuard guard(at);
    require_success("mount " + volume.loop() + " " + at);
    require_success("seq 1 200000 > " + at + "/numbers && sync " + at + "/numbers && cp " + at + "/numbers " +
                    at + "/copy && rm " + at + "/numbers");
    require_success("umount " + at);
  }
  require_success("xfs_repair -n " + volume.loop());
  CHECK(device->calls.flushes > 0);
}

TEST_CASE("the loop device has the backing's logical block size and does direct I/O") {
  REQUIRE_ATTACH();
  for (const uint32_t block_size : {512u, 4096u}) {
    const ServedVolume volume(std::make_shared<ScratchDevice>(kSmall, block_size));
    REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
    CHECK(shell("blockdev --getss " + volume.loop()).output == std::to_string(block_size) + "\n");
    CHECK(shell("blockdev --getsize64 " + volume.loop()).output == std::to_string(kSmall) + "\n");
    const Fd loop(::open(volume.loop().c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 status{};
    REQUIRE(::ioctl(loop.get(), LOOP_GET_STATUS64, &status) == 0);
    CHECK((status.lo_flags & LO_FLAGS_DIRECT_IO) != 0);
  }
}

TEST_CASE("32 writes in flight at once leave what fio wrote, with any number of threads") {
  REQUIRE_ATTACH();
  for (const uint32_t threads : {1u, 4u}) {
    auto device = std::make_shared<ScratchDevice>(kSmall);
    const ServedVolume volume(device, threads);
    REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
    require_success(
        "fio --name=v --filename=" + volume.loop() +
        " --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=512-256k --blockalign=512" +
        " --size=8M --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --fsync=64");
    CHECK(device->calls.unaligned_payloads == 0);
  }
}

TEST_CASE("a discarded range reads as zeroes, its neighbours are kept") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(kSmall);
  const ServedVolume volume(device);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  require_success("tr \"\\000\" \"\\252\" < /dev/zero | head -c 4M | dd of=" + volume.loop() +
                  " bs=1M oflag=direct iflag=fullblock status=none");
  require_success("blkdiscard -o 1M -l 1M " + volume.loop());
  CHECK(device->calls.trims > 0);
  require_success("blkdiscard -z -o 3M -l 512K " + volume.loop());
  std::vector<std::byte> found(4u << 20);
  REQUIRE(device->read(0, found.size(), found.data()) == 0);
  const auto is_filled = [&found](uint64_t from, uint64_t to, std::byte value) {
    for (uint64_t i = from; i < to; ++i)
      if (found[i] != value) return false;
    return true;
  };
  CHECK(is_filled(0, 1u << 20, std::byte{0xaa}));
  CHECK(is_filled(1u << 20, 2u << 20, std::byte{0}));
  CHECK(is_filled(2u << 20, 3u << 20, std::byte{0xaa}));
  CHECK(is_filled(3u << 20, 7u << 19, std::byte{0}));
  CHECK(is_filled(7u << 19, 4u << 20, std::byte{0xaa}));
}

TEST_CASE("a read-only volume is read-only all the way up") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(kSmall);
  const ServedVolume volume(device, 2, true);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  CHECK(shell("blockdev --getro " + volume.loop()).output == "1\n");
  CHECK(::open(volume.file().c_str(), O_RDWR) == -1);
  CHECK(errno == EROFS);
  CHECK(shell("dd if=/dev/zero of=" + volume.loop() + " bs=4k count=1 conv=fsync status=none").status != 0);
  CHECK(device->calls.writes == 0);
}

TEST_CASE("an error of the device is an error of the program that reads or syncs") {
  REQUIRE_ATTACH();
  auto device = std::make_shared<ScratchDevice>(kSmall);
  const ServedVolume volume(device);
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  const Fd file(::open(volume.file().c_str(), O_RDWR | O_CLOEXEC));
  char byte = 0;
  device->set_failure(EIO);
  CHECK(::pread(file.get(), &byte, 1, 0) == -1);
  CHECK(errno == EIO);
  CHECK(::fsync(file.get()) == -1);
  CHECK(errno == EIO);
  device->set_failure(0);
  CHECK(::pread(file.get(), &byte, 1, 0) == 1);
}

TEST_CASE("stop() of an idle server unmounts and gives the device back") {
  REQUIRE_ATTACH();
  const TemporaryDirectory directory;
  auto device = std::make_shared<ScratchDevice>(kSmall);
  auto server = FuseServer::start({.mount_point = directory.path(), .device = device});
  REQUIRE(server.ok());
  CHECK(is_mounted(directory.path()));
  CHECK(device.use_count() > 1);
  (*server)->stop();
  CHECK_FALSE(is_mounted(directory.path()));
  CHECK(device.use_count() == 1);
  (*server)->stop();  // again: nothing to do
}

TEST_CASE("stop() with the loop device still attached aborts after its grace instead of hanging") {
  REQUIRE_ATTACH();
  ServedVolume volume(std::make_shared<ScratchDevice>(kSmall));
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  volume.server().stop(std::chrono::milliseconds(100));
  CHECK_FALSE(is_mounted(volume.directory()));
  // Nothing hangs on it: an error, and it can be detached.
  CHECK(shell("dd if=" + volume.loop() + " of=/dev/null bs=4k count=1 iflag=direct status=none", 10).status ==
        1);
  CHECK(volume.detach().ok());
}

TEST_CASE("stop() lets a lingering user of the file finish within its grace") {
  REQUIRE_ATTACH();
  ServedVolume volume(std::make_shared<ScratchDevice>(kSmall));
  REQUIRE_MESSAGE(volume.problem().empty(), volume.problem());
  Fd file(::open(volume.file().c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(file);
  REQUIRE(volume.detach().ok());
  bool is_written = false;
  std::thread user([&] {
    while (is_mounted(volume.directory())) std::this_thread::yield();
    is_written = ::pwrite(file.get(), "late", 4, 0) == 4;
    file.reset();
  });
  volume.server().stop(std::chrono::seconds(20));
  user.join();
  CHECK(is_written);
}

TEST_CASE("stop() leaves alone what somebody mounted over the volume's directory") {
  REQUIRE_ATTACH();
  const TemporaryDirectory directory;
  auto server =
      FuseServer::start({.mount_point = directory.path(), .device = std::make_shared<ScratchDevice>(kSmall)});
  REQUIRE(server.ok());
  REQUIRE(::mount("none", directory.path().c_str(), "tmpfs", 0, "size=64k") == 0);
  const MountGuard upper(directory.path());
  const MountGuard lower(directory.path());
  (*server)->stop(std::chrono::milliseconds(50));
  CHECK(shell("stat -f -c %T " + directory.path()).output == "tmpfs\n");
}

TEST_CASE("a mount point named by a symbolic link is unmounted although the link has gone") {
  REQUIRE_ATTACH();
  const TemporaryDirectory directory;
  const std::string link = directory.path() + "-link";
  REQUIRE(::symlink(directory.path().c_str(), link.c_str()) == 0);
  auto server = FuseServer::start({.mount_point = link, .device = std::make_shared<ScratchDevice>(kSmall)});
  ::unlink(link.c_str());
  REQUIRE(server.ok());
  CHECK(is_mounted(directory.path()));
  (*server)->stop();
  CHECK_FALSE(is_mounted(directory.path()));
}

TEST_CASE("an administrator's umount ends the session, and stop() finds nothing left to do") {
  REQUIRE_ATTACH();
  const TemporaryDirectory directory;
  auto server =
      FuseServer::start({.mount_point = directory.path(), .device = std::make_shared<ScratchDevice>(kSmall)});
  REQUIRE(server.ok());
  REQUIRE(::umount(directory.path().c_str()) == 0);
  (*server)->stop();
}

TEST_CASE("a mount point that is missing, and options that make no sense, are refused with a code") {
  REQUIRE_ATTACH();
  const TemporaryDirectory directory;
  const auto code = [](const FuseServer::Options& options) {
    const auto server = FuseServer::start(options);
    return server.ok() ? std::string() : std::string(server.error().code);
  };
  const auto device = std::make_shared<ScratchDevice>(kSmall);
  CHECK(code({.mount_point = directory.path() + "/missing", .device = device}) == "FUSE_MOUNT");
  CHECK(code({.mount_point = directory.path(), .file_name = "a/b", .device = device}) == "FUSE_MOUNT");
  CHECK(code({.mount_point = directory.path(), .device = device, .threads = 0}) == "FUSE_MOUNT");
  CHECK(code({.mount_point = directory.path(), .device = device, .threads = 17}) == "FUSE_MOUNT");
  CHECK_FALSE(is_mounted(directory.path()));
}
