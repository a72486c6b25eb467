// FuseMount: an open /dev/fuse and the file system mounted with it.
//
// Threads: descriptor() from any; the rest from one control thread.
// Ownership: owns the descriptor and the mount; the destructor unmounts, then closes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

class FuseMount {
 public:
  /// Mounts on the existing directory. The kernel's INIT request then waits to be read from descriptor().
  /// Errors: FUSE_UNAVAILABLE (no /dev/fuse, no permission), FUSE_MOUNT.
  static Result<std::unique_ptr<FuseMount>> mount(const std::string& mount_point, bool read_only);
  /// The session of a predecessor, with what connection() and mount_point() said there.
  static std::unique_ptr<FuseMount> adopt(Fd fuse, std::string mount_point, uint32_t connection);
  ~FuseMount();

  int descriptor() const { return fuse_.get(); }
  /// Without links.
  const std::string& mount_point() const { return mount_point_; }
  /// The kernel's number of the connection: its directory below /sys/fs/fuse/connections.
  uint32_t connection() const { return connection_; }
  /// Takes the mount away, lazily if something still uses it: then the session lives until that lets go. Does
  /// nothing if it is not mounted there any more, whoever unmounted it, and never touches another mount on
  /// the same directory.
  void unmount();
  /// Leaves mount and session to others: the destructor will only close the descriptor.
  void release() { connection_ = 0; }
  /// Ends the session whatever uses it: every request, waiting or new, gets an error.
  Outcome abort();

 private:
  FuseMount(Fd fuse, std::string mount_point)
      : fuse_(std::move(fuse)), mount_point_(std::move(mount_point)) {}
  Fd fuse_;
  std::string mount_point_;
  uint32_t connection_ = 0;
};

}  // namespace afterimage
