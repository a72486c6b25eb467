#include "frontend/loop_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

#include "os/fd.h"

namespace afterimage {
namespace {

constexpr unsigned kLoopMajor = 7;
constexpr int kAttachTriesMax = 64;
constexpr int kDetachTriesMax = 20;
constexpr std::chrono::milliseconds kDetachRetryPause{50};

/// Opens /dev/loopN, making the node where nothing (devtmpfs, udev) has: the device itself exists.
Fd open_loop(const std::string& device, int number, int flags) {
  Fd loop(::open(device.c_str(), flags));
  if (loop || errno != ENOENT) return loop;
  ::mknod(device.c_str(), S_IFBLK | 0600, ::makedev(kLoopMajor, static_cast<unsigned>(number)));
  return Fd(::open(device.c_str(), flags));
}

/// 0 detached, EBUSY someone else has it open (and it stays attached), or another errno.
Errno try_detach(int loop) {
  if (::ioctl(loop, LOOP_CLR_FD) != 0) return errno;
  // With other openers the kernel reports success, and detaches when the last of them closes. Take that back:
  // the caller is told LOOP_BUSY and must find the device as it was.
  loop_info64 status{};
  if (::ioctl(loop, LOOP_GET_STATUS64, &status) != 0) return errno == ENXIO ? 0 : errno;
  status.lo_flags &= ~static_cast<uint32_t>(LO_FLAGS_AUTOCLEAR);
  return ::ioctl(loop, LOOP_SET_STATUS64, &status) == 0 ? EBUSY : errno;
}

}  // namespace

Result<std::string> attach_loop(const LoopOptions& options) {
  const int access = options.read_only ? O_RDONLY : O_RDWR;
  const Fd file(::open(options.file.c_str(), access | O_CLOEXEC));
  if (!file) return system_error("LOOP_ATTACH", "open " + options.file, errno);
  const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return system_error("LOOP_UNAVAILABLE", "open /dev/loop-control", errno);

  loop_config config{};
  config.fd = static_cast<uint32_t>(file.get());
  config.block_size = options.block_size;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO | (options.read_only ? LO_FLAGS_READ_ONLY : 0);
  // For the reader of `losetup`; the kernel uses it for nothing.
  std::snprintf(reinterpret_cast<char*>(config.info.lo_file_name), LO_NAME_SIZE, "%s", options.file.c_str());
  for (int i = 0; i < kAttachTriesMax; ++i) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return system_error("LOOP_UNAVAILABLE", "LOOP_CTL_GET_FREE", errno);
    const std::string device = "/dev/loop" + std::to_string(number);
    const Fd loop = open_loop(device, number, access | O_CLOEXEC);
    // A node whose device somebody removes at this moment is a lost race too.
    if (!loop && errno != ENXIO) return system_error("LOOP_UNAVAILABLE", "open " + device, errno);
    if (loop && ::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return device;
    if (loop && errno != EBUSY)
      return system_error("LOOP_ATTACH", "attach " + options.file + " to " + device, errno);
  }
  return system_error("LOOP_UNAVAILABLE", "every free loop device was taken by others", EBUSY);
}

Outcome detach_loop(const std::string& device) {
  Errno error = EBUSY;
  for (int i = 0; i < kDetachTriesMax && error == EBUSY; ++i) {
    if (i > 0) std::this_thread::sleep_for(kDetachRetryPause);
    // O_EXCL is refused while it is mounted, which will not pass: nothing to wait for.
    const Fd loop(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (!loop) return system_error(errno == EBUSY ? "LOOP_BUSY" : "LOOP_DETACH", "open " + device, errno);
    error = try_detach(loop.get());
  }
  if (error != 0)
    return system_error(error == EBUSY ? "LOOP_BUSY" : "LOOP_DETACH", "detach " + device, error);
  return Nothing{};
}

Outcome resize_loop(const std::string& device, const std::string& file, uint64_t bytes) {
  const Fd loop(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  uint64_t now = 0;
  if (!loop || ::ioctl(loop.get(), BLKGETSIZE64, &now) != 0)
    return system_error("DEVICE_RESIZE", "ask " + device + " for its size", errno);
  if (now == bytes) return Nothing{};
  // The driver takes the size that the kernel remembers of the file, which it does not take over from an
  // answer of its server while others write; from this, which is no change for the server, it does.
  struct statx told {};
  if (::statx(AT_FDCWD, file.c_str(), AT_STATX_FORCE_SYNC, STATX_SIZE, &told) != 0)
    return system_error("DEVICE_RESIZE", "ask for the size of " + file, errno);
  if (told.stx_size == bytes && ::truncate(file.c_str(), static_cast<off_t>(bytes)) != 0)
    return system_error("DEVICE_RESIZE", "have the size of " + file + " noticed", errno);
  if (::ioctl(loop.get(), LOOP_SET_CAPACITY) != 0 || ::ioctl(loop.get(), BLKGETSIZE64, &now) != 0)
    return system_error("DEVICE_RESIZE", "resize " + device, errno);
  if (now == bytes) return Nothing{};
  return Error{"DEVICE_RESIZE",
               device + " has " + std::to_string(now) + " bytes, not " + std::to_string(bytes)};
}

Result<bool> is_loop_over(const std::string& device, const FileIdentity& file) {
  const Fd loop(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  loop_info64 status{};
  if (loop && ::ioctl(loop.get(), LOOP_GET_STATUS64, &status) == 0)
    return status.lo_device == file.device && status.lo_inode == file.inode;
  // ENXIO: of open(), there is no such device any more; of ioctl(), it is attached to nothing.
  if (errno == ENXIO) return false;
  return system_error("LOOP_DETACH", "ask " + device + " for its file", errno);
}

}  // namespace afterimage
