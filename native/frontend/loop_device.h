// Loop devices: attaching a file (of a FuseServer) as /dev/loopN by ioctl, as losetup(8) does.
//
// Threads: any; all may block on I/O. Needs root.
#pragma once

#include <cstdint>
#include <string>

#include "os/result.h"

namespace afterimage {

struct LoopOptions {
  std::string file;
  uint32_t block_size = 512;  // logical, of the backing
  bool read_only = false;
};

/// Attaches with direct I/O to the first free loop device (LOOP_CTL_GET_FREE + LOOP_CONFIGURE, retried on a
/// race). Returns "/dev/loopN". Errors: LOOP_UNAVAILABLE, LOOP_ATTACH.
Result<std::string> attach_loop(const LoopOptions& options);

/// Detaches; LOOP_BUSY if something still has it open (mounted, in use). Never leaves a lazy (autoclear)
/// detach behind. Waits up to a second for openers that come and go, such as udev. Errors: LOOP_BUSY,
/// LOOP_DETACH.
Outcome detach_loop(const std::string& device);

/// Makes the device as large as `file`, which it lies over, has become: `bytes`. Errors: DEVICE_RESIZE, also
/// when it is not that large then.
Outcome resize_loop(const std::string& device, const std::string& file, uint64_t bytes);

/// A file, whatever has become of its path: st_dev and st_ino.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
};

/// Whether `device` is attached to that file; false also when it is attached to nothing. Asks the file system
/// of the file. Errors: LOOP_DETACH when it cannot be told.
Result<bool> is_loop_over(const std::string& device, const FileIdentity& file);

}  // namespace afterimage
