// The kernel's nbd driver: a block device /dev/nbdN whose requests come over a socket (linux/nbd-netlink.h).
// One end of a socket pair is given to it, without a listener and without a handshake; it may be given
// another when that one is dead.
//
// What the driver does, seen on 6.1 and 6.12:
//  - Once the other end of its socket is closed, new requests wait, up to the dead-connection timeout: after
//  that they fail.
//    Those that had been sent are sent again, each when its own timeout is over.
//  - A request that is not answered within the timeout ends the connection, also that of a server which is
//  only slow.
//  - It says that it has taken another socket also when the one before is not dead, and closes the new one.
//
// Threads: any; all may block. Needs root (CAP_SYS_ADMIN).
#pragma once

#include <cstdint>
#include <string>

#include "os/generic_netlink.h"
#include "os/result.h"

namespace afterimage {

/// Requests wait for as long as no server is there: to be answered late is what they can bear, an error is
/// not (R7). `nbd-client -d` ends the wait, with errors.
constexpr uint64_t kNbdDeadConnectionSeconds = uint64_t{365} * 86'400;

struct NbdDeviceOptions {
  uint64_t size = 0;
  uint32_t block_size = 512;  // logical, of the backing
  bool read_only = false;
  /// Whose device it is: the kernel keeps it with the device, and shows it as /sys/block/nbdN/backend.
  std::string backend;
  /// Seconds after which a request that is not answered is sent again, on another connection.
  uint32_t timeout_seconds = 0;
};

class NbdDriver {
 public:
  /// Errors: NBD_UNAVAILABLE.
  static Result<NbdDriver> open();

  /// Attaches `socket` as the first free device, and returns its name, "/dev/nbdN". The socket stays the
  /// caller's, and the driver has it too. Errors: NBD_ATTACH.
  Result<std::string> connect(const NbdDeviceOptions& options, int socket);
  /// Offers `socket` in the place of a dead one. 0: the kernel may have taken it, which only its use tells.
  /// ENODEV: no device of that name is attached for `backend`. Another errno: try again.
  Errno reconnect(const std::string& device, const std::string& backend, uint32_t timeout_seconds,
                  int socket);
  /// It has `bytes` from now on. Errors: DEVICE_RESIZE.
  Outcome resize(const std::string& device, const std::string& backend, uint64_t bytes);
  /// Detaches it from whoever may use it.
  void disconnect(const std::string& device, const std::string& backend);
  /// Detaches; NBD_BUSY if something still has it open, and then it stays attached. Nothing to do where it is
  /// not attached for `backend`. Its server must be serving. Errors: NBD_BUSY, NBD_DETACH.
  Outcome detach(const std::string& device, const std::string& backend);

 private:
  Errno set_flags(uint32_t index, const std::string& backend, uint64_t client_flags);
  GenericNetlink netlink_;
};

/// 0: `device` is attached for `backend`. ENODEV: it is not. Another errno: that cannot be told, try again.
Errno check_nbd_owner(const std::string& device, const std::string& backend);

}  // namespace afterimage
