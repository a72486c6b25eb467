// FuseServer: serves one BlockDevice as the one file of a FUSE file system, by the raw /dev/fuse protocol
// (include/uapi/linux/fuse.h, 7.31 and later). A loop device over that file is what the protected host sees.
// FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES, max_write 1 MiB, never FUSE_WRITEBACK_CACHE (writes would
// be acknowledged before they are seen).
//
// Threads: start()/stop() from one control thread; both may block. `threads` server threads read /dev/fuse,
// each into its own slot, and carry the request out inline. Nothing calls into JavaScript.
// Ownership: shares the device until stop() has returned; owns the descriptor, the slots and the mount.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device/block_device.h"
#include "frontend/request_slots.h"
#include "os/fd.h"
#include "os/pinned_memory.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kFuseThreadsMax = 16;
/// How long stop() lets whoever still uses the file finish.
constexpr std::chrono::milliseconds kFuseStopGrace{5000};

class FuseMount;
class FuseSession;

class FuseServer {
 public:
  struct Options {
    std::string mount_point;  // an existing directory
    std::string file_name = "volume";
    std::shared_ptr<BlockDevice> device;
    bool read_only = false;
    uint32_t threads = 4;  // 1…kFuseThreadsMax
    bool resend = true;    // resume(): false as if the kernel knew no FUSE_NOTIFY_RESEND, for tests
  };
  /// Errors: FUSE_UNAVAILABLE (no /dev/fuse, no permission), FUSE_MOUNT, SLOTS_UNAVAILABLE,
  /// MEMORY_UNAVAILABLE.
  static Result<std::unique_ptr<FuseServer>> start(const Options& options);

  /// What outlives a process that serves: a successor goes on with it, and who uses the file does not notice.
  struct Legacy {
    Fd fuse;
    Fd slots;
    std::string mount_point;  // without links
    uint32_t connection = 0;  // the kernel's number of the session
  };
  /// Goes on where a predecessor ended, all of whose threads must have ended: finishes every request that it
  /// had read, then has the kernel send again what it gave out and nobody holds (Linux 6.9; before there is
  /// none, since every request is read into a slot), then serves. The number of threads is the
  /// predecessor's. Without slots, since they are of another layout, only what the kernel sends again is
  /// finished. Errors: SLOTS_LAYOUT, SLOTS_UNAVAILABLE, MEMORY_UNAVAILABLE, FUSE_UNAVAILABLE.
  static Result<std::unique_ptr<FuseServer>> resume(const Options& options, Legacy legacy);
  ~FuseServer();  // stop()

  /// Duplicates of the descriptors, for whoever keeps them. Errors: FUSE_UNAVAILABLE.
  Result<Legacy> legacy() const;
  /// Unmounts, which ends the session; joins all threads. Detach loop devices and close the file first: while
  /// they use it the session goes on after a lazy unmount, and is served for `grace` longer; then it is
  /// aborted, and what they have not written is lost to them with an I/O error.
  void stop(std::chrono::milliseconds grace = kFuseStopGrace);

 private:
  FuseServer(const Options& options, std::unique_ptr<RequestSlots> slots,
             std::vector<PinnedMemory> read_buffers);
  static Result<std::vector<PinnedMemory>> make_read_buffers(uint32_t count);
  Outcome negotiate();
  void finish_inherited(bool resend);
  Outcome start_threads();
  void run(uint32_t index);

  std::unique_ptr<FuseSession> session_;
  std::unique_ptr<RequestSlots> slots_;
  std::vector<PinnedMemory> read_buffers_;
  std::unique_ptr<FuseMount> mount_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable thread_ended_;
  uint32_t running_ = 0;  // under mutex_
};

}  // namespace afterimage
