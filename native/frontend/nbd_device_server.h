// NbdDeviceServer: serves a BlockDevice to the kernel's nbd driver, over one end of a socket pair, and over
// another one when that is dead: the driver has given up waiting for an answer, or a predecessor of this
// process has died.
//
// One connection, and one thread that carries its requests out and then asks for the next: whatever the
// driver sends again runs when all that the connection before has read is done. A write that was stalled
// never lands over a newer one.
//
// Threads: start() and stop() from one control thread; the server's own does the rest, and never waits for
// JavaScript. Ownership: shares the device until stop() has returned.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "device/block_device.h"
#include "frontend/nbd_connection.h"
#include "os/fd.h"
#include "os/pinned_memory.h"
#include "os/result.h"

namespace afterimage {

/// A backing that takes longer for a request than this loses its connection, and is given twice as long by
/// the next: with less than it needs for one, it would never get to the end of any.
constexpr uint32_t kNbdTimeoutSecondsMin = 2;
constexpr uint32_t kNbdTimeoutSecondsMax = 256;

class NbdDeviceServer {
 public:
  /// Gives the driver one end of a socket pair, which stays the caller's. 0: it may have taken it. ENODEV:
  /// there is nobody who would, and the server ends. Another errno: try again. Called from the server's
  /// thread.
  using Offer = std::function<Errno(int socket, uint32_t timeout_seconds)>;

  /// Serves `socket` first, unless it is empty. Errors: MEMORY_UNAVAILABLE, NBD_ATTACH.
  static Result<std::unique_ptr<NbdDeviceServer>> start(std::shared_ptr<BlockDevice> device, Fd socket,
                                                        Offer offer);
  ~NbdDeviceServer();  // stop()

  /// Ends when the request that is being carried out is. What the driver has sent and not got an answer to
  /// waits for whoever comes next.
  void stop();

 private:
  NbdDeviceServer(std::shared_ptr<BlockDevice> device, Fd socket, Offer offer, PinnedMemory memory);
  void run();
  bool serve();
  bool renew();

  NbdExport export_;
  const Offer offer_;
  const PinnedMemory memory_;
  NbdTraffic traffic_;
  uint32_t timeout_seconds_ = kNbdTimeoutSecondsMin;
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;  // of the socket's number, which stop() uses
  std::condition_variable stopped_;
  Fd socket_;
  std::thread thread_;
};

}  // namespace afterimage
