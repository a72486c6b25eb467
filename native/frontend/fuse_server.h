// FuseServer: serves one BlockDevice as the one file of a FUSE file system, by the raw /dev/fuse protocol
// (include/uapi/linux/fuse.h, 7.31 and later). A loop device over that file is what the protected host sees.
// FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES, max_write 1 MiB, never FUSE_WRITEBACK_CACHE (writes would
// be acknowledged before they are seen).
//
// Threads: start()/stop() from one control thread. `threads` server threads read /dev/fuse, each into its own
// slot, and carry the request out inline. Nothing calls into JavaScript. Ownership: shares the device until
// stop() has returned; owns the descriptor, the slots and the mount.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "device/block_device.h"
#include "frontend/request_slots.h"
#include "os/result.h"

namespace afterimage {

class FuseServer {
 public:
  struct Options {
    std::string mount_point;  // an existing directory
    std::string file_name = "volume";
    std::shared_ptr<BlockDevice> device;
    bool read_only = false;
    uint32_t threads = 4;  // 1…16
  };
  /// Errors: FUSE_UNAVAILABLE (no /dev/fuse, no permission), FUSE_MOUNT.
  static Result<std::unique_ptr<FuseServer>> start(const Options& options);
  ~FuseServer();  // stop()

  int fuse_descriptor() const;  // for the descriptor store; stays owned by the server
  int slots_memfd() const;
  /// Unmounts (lazily if still in use), which ends the session; joins all threads.
  void stop();
};

}  // namespace afterimage
