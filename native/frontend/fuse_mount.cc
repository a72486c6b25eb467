#include "frontend/fuse_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <optional>

#include "frontend/fuse_session.h"

namespace afterimage {
namespace {

/// The device number of the FUSE file system mounted on `path`, which is its connection's number.
std::optional<uint32_t> connection_at(const std::string& path) {
  struct statx answer {};
  // DONT_SYNC: answered from what the kernel knows, since no server may be there to ask.
  const int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  if (::statx(AT_FDCWD, path.c_str(), flags, STATX_TYPE, &answer) != 0 || answer.stx_dev_major != 0)
    return std::nullopt;
  return answer.stx_dev_minor;
}

/// The root of the FUSE control file system, as a mount that lies at no path and is gone with the descriptor:
/// there need not be one at its usual place, and nobody else's is touched.
Fd open_control() {
  const Fd file_system(::fsopen("fusectl", FSOPEN_CLOEXEC));
  if (!file_system || ::fsconfig(file_system.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return Fd();
  return Fd(::fsmount(file_system.get(), FSMOUNT_CLOEXEC, 0));
}

}  // namespace

Result<std::unique_ptr<FuseMount>> FuseMount::mount(const std::string& mount_point, bool read_only) {
  // Resolved once: a symbolic link that is changed later must not lead unmount() elsewhere.
  char resolved[PATH_MAX];
  if (::realpath(mount_point.c_str(), resolved) == nullptr)
    return system_error("FUSE_MOUNT", "mount on " + mount_point, errno);
  Fd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse) return system_error("FUSE_UNAVAILABLE", "open /dev/fuse", errno);
  // default_permissions: the kernel holds everyone but root to the modes that the session reports.
  const std::string options =
      "fd=" + std::to_string(fuse.get()) +
      ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=" +
      std::to_string(kFuseIoBytesMax);
  const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | (read_only ? MS_RDONLY : 0);
  std::unique_ptr<FuseMount> mount(new FuseMount(std::move(fuse), resolved));
  if (::mount("afterimage", resolved, "fuse", flags, options.c_str()) != 0) {
    const bool is_refused = errno == EPERM || errno == EACCES || errno == ENODEV;
    return system_error(is_refused ? "FUSE_UNAVAILABLE" : "FUSE_MOUNT", "mount on " + mount_point, errno);
  }
  const auto connection = connection_at(resolved);
  if (!connection) {
    const Errno error = errno;
    ::umount2(resolved, MNT_DETACH);
    return system_error("FUSE_MOUNT", "statx " + mount_point, error);
  }
  mount->connection_ = *connection;
  return mount;
}

std::unique_ptr<FuseMount> FuseMount::adopt(Fd fuse, std::string mount_point, uint32_t connection) {
  std::unique_ptr<FuseMount> mount(new FuseMount(std::move(fuse), std::move(mount_point)));
  mount->connection_ = connection;
  return mount;
}

FuseMount::~FuseMount() { unmount(); }

void FuseMount::unmount() {
  if (connection_ == 0 || connection_at(mount_point_) != connection_) return;
  if (::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW) != 0 && errno == EBUSY)
    ::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH);
}

Outcome FuseMount::abort() {
  const auto failed = [this] {
    return system_error("FUSE_MOUNT", "abort of FUSE connection " + std::to_string(connection_), errno);
  };
  const Fd control = open_control();
  if (!control) return failed();
  const std::string path = std::to_string(connection_) + "/abort";
  const Fd fd(::openat(control.get(), path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return Nothing{};  // the session has ended by itself
  if (!fd || ::write(fd.get(), "1", 1) != 1) return failed();
  return Nothing{};
}

}  // namespace afterimage
