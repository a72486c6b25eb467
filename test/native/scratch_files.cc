#include "scratch_files.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <random>
#include <vector>

#include "os/fd.h"

namespace afterimage {

ScratchDirectory::ScratchDirectory() {
  root_ = (std::filesystem::temp_directory_path() / "afterimage-test-XXXXXX").string();
  REQUIRE(::mkdtemp(root_.data()) != nullptr);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

std::string ScratchDirectory::make_file(const std::string& name, uint64_t bytes) const {
  const std::string file = path(name);
  ::unlink(file.c_str());
  const Fd fd(::open(file.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return file;
}

std::string ScratchDirectory::make_random_file(const std::string& name, uint64_t bytes) const {
  const std::string file = make_file(name, bytes);
  std::mt19937_64 random(bytes);
  std::vector<uint8_t> content(bytes);
  for (uint8_t& byte : content) byte = static_cast<uint8_t>(random() % 255 + 1);
  const Fd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::pwrite(fd.get(), content.data(), bytes, 0) == static_cast<ssize_t>(bytes));
  return file;
}

bool LoopDisk::available() { return ::access("/dev/loop-control", R_OK | W_OK) == 0; }

LoopDisk::LoopDisk(const std::string& file, uint32_t sector_bytes) {
  const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  const Fd backing(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(control);
  REQUIRE(backing);
  // Another process may take the number that the control device named.
  for (int attempt = 0; attempt < 20 && path_.empty(); ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    const std::string path = "/dev/loop" + std::to_string(number);
    const Fd loop(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<uint32_t>(backing.get());
    config.block_size = sector_bytes;
    if (loop && ::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) path_ = path;
  }
  REQUIRE_MESSAGE(!path_.empty(), "no free loop device");
}

LoopDisk::~LoopDisk() {
  const Fd loop(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (loop) ::ioctl(loop.get(), LOOP_CLR_FD, 0);
}

SmallFileSystem::SmallFileSystem(const std::string& mount_point, uint64_t bytes) : path_(mount_point) {
  REQUIRE(::mkdir(path_.c_str(), 0700) == 0);
  const std::string options = "size=" + std::to_string(bytes);
  mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

SmallFileSystem::~SmallFileSystem() {
  if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
}

}  // namespace afterimage
