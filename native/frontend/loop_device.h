// Loop devices: attaching a file (of a FuseServer) as /dev/loopN by ioctl, as losetup(8) does.
//
// Threads: any; attach() and detach() may block on I/O. Needs root.
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
/// detach behind.
Outcome detach_loop(const std::string& device);

}  // namespace afterimage
