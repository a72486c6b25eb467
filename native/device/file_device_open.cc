// How a FileDevice comes to be: opening exclusively, and finding out what the descriptor can do.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <bit>
#include <fstream>

#include "device/file_device.h"
#include "os/file_error.h"

namespace afterimage {
namespace {

constexpr uint32_t kBlockBytesMax = 4096;

Result<Fd> open_path(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags);
  if (fd >= 0) return Fd(fd);
  const Errno error = errno;
  const std::string what = "open " + path;
  if (error == ENOENT || error == ENOTDIR || error == ENXIO || error == ENODEV)
    return system_error("BACKING_MISSING", what, error);
  if (error == EBUSY || error == ETXTBSY) return system_error("BACKING_BUSY", what, error);
  return file_error(what, error);
}

/// The queue attributes of a disk lie in its own directory; those of a partition in its disk's.
uint64_t queue_attribute(dev_t device, const char* name) {
  const std::string base =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  for (const char* queue : {"/queue/", "/../queue/"}) {
    std::ifstream file(base + queue + name);
    uint64_t value = 0;
    if (file >> value) return value;
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<FileDevice>> FileDevice::open(const std::string& path, const Options& options) {
  // Looked at before it is opened: opening a FIFO would wait, opening a tape would wind it.
  struct stat before {};
  if (::stat(path.c_str(), &before) != 0) {
    const Errno error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    return missing ? system_error("BACKING_MISSING", "stat " + path, error)
                   : file_error("stat " + path, error);
  }
  const bool is_block_device = S_ISBLK(before.st_mode);
  if (!is_block_device && !S_ISREG(before.st_mode))
    return Error{"BACKING_INVALID", path + " is neither a file nor a block device"};
  if (options.inode != 0 && (is_block_device || before.st_ino != options.inode))
    return Error{"BACKING_REPLACED", path + " is not the file that was opened before"};

  int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
  if (is_block_device && options.exclusive) flags |= O_EXCL;
  const bool direct = options.cache == Cache::kDirect;
  Result<Fd> fd = open_path(path, direct ? flags | O_DIRECT : flags);
  // EINVAL: a file system without direct I/O.
  const bool refused = direct && !fd.ok() && fd.error().sys == EINVAL;
  if (refused) fd = open_path(path, flags);
  if (!fd.ok()) return fd.error();

  std::unique_ptr<FileDevice> device(new FileDevice());
  device->fd_ = std::move(*fd);
  device->read_only_ = options.read_only;
  device->direct_ = direct && !refused;
  if (Outcome measured = device->measure(path, options.size); !measured.ok()) return measured.error();
  if (options.exclusive && !device->is_block_device_)
    if (Outcome locked = device->lock_file(path); !locked.ok()) return locked.error();
  device->measure_direct_io();
  device->measure_fast_zero();
  return device;
}

FileDevice::~FileDevice() = default;

Result<uint64_t> FileDevice::bytes_there() const {
  uint64_t bytes = 0;
  if (is_block_device_) {
    if (::ioctl(fd_.get(), BLKGETSIZE64, &bytes) != 0)
      return system_error("IO_ERROR", "ask a device for its size", errno);
    return bytes;
  }
  struct stat now {};
  if (::fstat(fd_.get(), &now) != 0) return system_error("IO_ERROR", "ask a file for its size", errno);
  return static_cast<uint64_t>(now.st_size);
}

Result<uint64_t> FileDevice::remeasure() {
  const auto there = bytes_there();
  if (!there.ok()) return there.error();
  if (*there > size_ && *there % block_size_ != 0)
    return Error{"BACKING_INVALID", "it has " + std::to_string(*there) +
                                        " bytes, which is not a multiple of " + std::to_string(block_size_)};
  const uint64_t usable = *there - *there % std::max(block_size_, alignment_);
  if (usable > size_) size_ = usable;
  return usable;
}

Outcome FileDevice::measure(const std::string& path, uint64_t size) {
  struct stat now {};
  if (::fstat(fd_.get(), &now) != 0) return system_error("IO_ERROR", "stat " + path, errno);
  is_block_device_ = S_ISBLK(now.st_mode);
  if (is_block_device_) {
    int logical = 0;
    if (::ioctl(fd_.get(), BLKSSZGET, &logical) != 0)
      return system_error("IO_ERROR", "ask " + path + " for its block size", errno);
    block_size_ = static_cast<uint32_t>(logical);
    if (!std::has_single_bit(block_size_) || block_size_ < kSectorBytes || block_size_ > kBlockBytesMax)
      return Error{"BACKING_INVALID", path + " has blocks of " + std::to_string(logical) + " bytes"};
    zero_unit_ = block_size_;
  } else if (!S_ISREG(now.st_mode)) {
    return Error{"BACKING_INVALID", path + " is neither a file nor a block device"};
  }
  const auto there = bytes_there();
  if (!there.ok()) return there.error();
  size_ = size != 0 ? size : *there;
  if (size_ == 0 || size_ % block_size_ != 0)
    return Error{"BACKING_INVALID", path + " has " + std::to_string(size_) +
                                        " bytes, which is not a positive multiple of " +
                                        std::to_string(block_size_)};
  return Nothing{};
}

Outcome FileDevice::lock_file(const std::string& path) {
  struct flock lock {};
  lock.l_type = read_only_ ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0) return Nothing{};
  const Errno error = errno;
  return system_error(error == EAGAIN || error == EACCES ? "BACKING_BUSY" : "IO_ERROR", "lock " + path,
                      error);
}

void FileDevice::measure_direct_io() {
  if (!direct_) return;
  const uint32_t smallest = is_block_device_ ? block_size_ : kSectorBytes;
  struct statx told {};
  if (::statx(fd_.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &told) == 0 &&
      (told.stx_mask & STATX_DIOALIGN) != 0 && told.stx_dio_offset_align != 0 &&
      told.stx_dio_mem_align != 0) {
    alignment_ = std::max(smallest, told.stx_dio_offset_align);
    memory_alignment_ = told.stx_dio_mem_align;
  } else {  // before Linux 6.1, and from file systems that do not tell: what is enough everywhere
    alignment_ = is_block_device_ ? block_size_ : kBlockBytesMax;
    memory_alignment_ = kBlockBytesMax;
  }
  const bool usable = std::has_single_bit(alignment_) && alignment_ <= kBlockBytesMax &&
                      size_ % alignment_ == 0 && memory_alignment_ <= kBlockBytesMax;
  if (!usable) {  // never for a block device: its size is a multiple of its blocks
    direct_ = false;
    alignment_ = memory_alignment_ = 1;
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT);
    return;
  }
  // A file system zeroes a part of one of its blocks in the page cache, which direct mode means to keep out
  // of.
  struct stat file {};
  if (!is_block_device_ && ::fstat(fd_.get(), &file) == 0 && file.st_blksize > 0)
    zero_unit_ = std::max(alignment_, std::bit_ceil(static_cast<uint32_t>(file.st_blksize)));
}

void FileDevice::measure_fast_zero() {
  if (read_only_) return;
  if (is_block_device_) {
    struct stat node {};
    fast_zero_ =
        ::fstat(fd_.get(), &node) == 0 && queue_attribute(node.st_rdev, "write_zeroes_max_bytes") > 0;
  } else {
    // A hole beyond the end changes nothing of the content, and a file system that has no holes says so.
    const auto end = bytes_there();
    fast_zero_ = end.ok() && ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                         static_cast<off_t>(*end), kBlockBytesMax) == 0;
  }
}

}  // namespace afterimage
