// fault-directory: a directory that shows another one, records every operation that changes it, and makes
// operations go wrong on demand.
//
//   fault-directory BACKING MOUNT_POINT LOG CONTROL_SOCKET
//
// Serves until SIGTERM, then unmounts. What it records is what was there at first, and then what reached the
// file system, in the order in which that happened, with every sync; so that a program can work out what a
// disk might have held at any moment (test/power_loss/). What it makes go wrong is told over the control
// socket, a line a request:
//
// - `add op=OP path=GLOB do=fail|short|torn|delay [errno=EIO|ENOSPC|…] [bytes=N] [us=N] [after=N] [times=N]`:
//   "ok ID". What the words mean: fault_rules.h.
// - `clear ID`, 0 for all rules: "ok"
// - `report`: "ID SEEN STRUCK" of each rule, a line each, then "ok"
// - `moment`: "ok N", the number that was given last
// - `flush`: "ok", the log is complete up to now
//
// Its writes are not held back: what write(2) returned from was recorded, in order. Shared mappings work;
// what is written through one comes when the kernel writes it back. Locks are the kernel's own, as on any
// local file system. O_DIRECT is accepted and means nothing. Not its job: speed, permissions, extended
// attributes, symbolic links, opening by way of /proc what has no name any more, and the order of two
// operations that were never ordered by whoever made them.
#define FUSE_USE_VERSION 314
#include <dirent.h>
#include <fcntl.h>
#include <fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "control_socket.h"
#include "fault_rules.h"
#include "operation_log.h"

namespace afterimage::fault {
namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr unsigned kWriteBytesMax = 1u << 20;

struct Handle {
  int fd = -1;
  uint64_t file = 0;
  std::string path{};  // when it was opened
};

struct Directory {
  Directory(std::string backing_path, const std::string& log_file)
      : backing(std::move(backing_path)), log(log_file) {}

  std::string backing;
  OperationLog log;
  FaultRules rules;
  /// Held while something is changed and recorded: the record's order is that in which it happened.
  std::mutex order;
  std::map<ino_t, uint64_t> files;  // numbers of files that have a name; under `order`
  uint64_t last_file = 0;

  std::string under(const char* path) const { return backing + path; }

  uint64_t file_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return 0;
    uint64_t& number = files[status.st_ino];
    if (number == 0) number = ++last_file;
    return number;
  }
};

Directory* self = nullptr;  // libfuse's callbacks are functions

Handle* handle_of(const fuse_file_info* info) { return reinterpret_cast<Handle*>(info->fh); }

int answer(int result) { return result < 0 ? -errno : 0; }

/// Waits as the rules say; then the rule that strikes, if any.
std::optional<Rule> struck(std::string_view operation, const std::string& path) {
  uint64_t microseconds = 0;
  auto rule = self->rules.strike(operation, path, &microseconds);
  if (microseconds > 0) std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  return rule;
}

/// Carries out `change` and records it, unless a rule forbids it. `change` returns 0 or an errno.
template <typename Change>
int changed(std::string_view name, Operation operation, Change change) {
  if (const auto rule = struck(name, operation.path)) return -rule->error;
  const std::lock_guard lock(self->order);
  self->log.begin(&operation);
  operation.error = change(&operation);
  self->log.end(&operation);
  return -operation.error;
}

int errno_of(int result) { return result < 0 ? errno : 0; }

int get_attributes(const char* path, struct stat* status, fuse_file_info* info) {
  return answer(info != nullptr ? ::fstat(handle_of(info)->fd, status)
                                : ::lstat(self->under(path).c_str(), status));
}

int make_directory(const char* path, mode_t mode) {
  return changed("mkdir", {.kind = Kind::kMakeDirectory, .path = path},
                 [&](Operation*) { return errno_of(::mkdir(self->under(path).c_str(), mode)); });
}

int remove_directory(const char* path) {
  return changed("unlink", {.kind = Kind::kRemoveDirectory, .path = path},
                 [&](Operation*) { return errno_of(::rmdir(self->under(path).c_str())); });
}

int unlink_file(const char* path) {
  return changed("unlink", {.kind = Kind::kUnlink, .path = path}, [&](Operation*) {
    const std::string file = self->under(path);
    struct stat status {};
    if (::lstat(file.c_str(), &status) != 0 || ::unlink(file.c_str()) != 0) return errno;
    if (status.st_nlink == 1) self->files.erase(status.st_ino);  // its number may be given again
    return 0;
  });
}

int rename_file(const char* from, const char* to, unsigned flags) {
  return changed("rename", {.kind = Kind::kRename, .path = from, .target = to}, [&](Operation*) {
    struct stat replaced {};
    const std::string target = self->under(to);
    const bool replaces = ::lstat(target.c_str(), &replaced) == 0;
    if (::renameat2(AT_FDCWD, self->under(from).c_str(), AT_FDCWD, target.c_str(), flags) != 0) return errno;
    if (replaces && replaced.st_nlink == 1 && flags == 0) self->files.erase(replaced.st_ino);
    return 0;
  });
}

int link_file(const char* from, const char* to) {
  return changed("link", {.kind = Kind::kLink, .path = from, .target = to}, [&](Operation*) {
    return errno_of(::link(self->under(from).c_str(), self->under(to).c_str()));
  });
}

int open_flags(int flags) { return (flags & ~(O_DIRECT | O_APPEND | O_TRUNC)) | O_CLOEXEC; }

int open_file(const char* path, fuse_file_info* info) {
  if (const auto rule = struck("open", path)) return -rule->error;
  // Written to in parts: the kernel reads what it is about to write over, through this descriptor.
  int flags = open_flags(info->flags);
  if ((flags & O_ACCMODE) == O_WRONLY) flags = (flags & ~O_ACCMODE) | O_RDWR;
  auto handle = std::make_unique<Handle>();
  handle->fd = ::open(self->under(path).c_str(), flags);
  if (handle->fd < 0) return -errno;
  handle->path = path;
  const std::lock_guard lock(self->order);
  handle->file = self->file_of(handle->fd);
  info->fh = reinterpret_cast<uint64_t>(handle.release());
  return 0;
}

int create_file(const char* path, mode_t mode, fuse_file_info* info) {
  auto handle = std::make_unique<Handle>();
  handle->path = path;
  const int error = changed("create", {.kind = Kind::kCreate, .path = path}, [&](Operation* operation) {
    const int flags = (open_flags(info->flags) & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL;
    handle->fd = ::open(self->under(path).c_str(), flags, mode);
    if (handle->fd < 0) return errno;
    operation->file = handle->file = self->file_of(handle->fd);
    return 0;
  });
  if (error == 0) info->fh = reinterpret_cast<uint64_t>(handle.release());
  return error;
}

int release_file(const char*, fuse_file_info* info) {
  const std::unique_ptr<Handle> handle(handle_of(info));
  ::close(handle->fd);
  return 0;
}

int read_file(const char*, char* buffer, size_t size, off_t offset, fuse_file_info* info) {
  const Handle& handle = *handle_of(info);
  if (const auto rule = struck("read", handle.path)) return -rule->error;
  const ssize_t n = ::pread(handle.fd, buffer, size, offset);
  return n < 0 ? -errno : static_cast<int>(n);
}

/// Bytes written, or minus an errno.
ssize_t write_recorded(const Handle& handle, const char* data, size_t size, off_t offset) {
  const std::lock_guard lock(self->order);
  Operation operation{.kind = Kind::kWrite,
                      .file = handle.file,
                      .offset = static_cast<uint64_t>(offset),
                      .length = 0,
                      .path = handle.path};
  self->log.begin(&operation);
  const ssize_t n = ::pwrite(handle.fd, data, size, offset);
  operation.error = n < 0 ? errno : 0;
  operation.length = n < 0 ? 0 : static_cast<uint64_t>(n);
  self->log.end(&operation, std::as_bytes(std::span(data, operation.length)));
  return n < 0 ? -operation.error : n;
}

int write_torn(const Handle& handle, const Rule& rule, const char* data, size_t size, off_t offset) {
  const auto first = static_cast<uint64_t>(offset);
  bool is_written = true;
  for (uint64_t at = std::min<uint64_t>(rule.bytes, size); at < size; is_written = !is_written) {
    const uint64_t next =
        std::min<uint64_t>(size, (first + at) / kSectorBytes * kSectorBytes + kSectorBytes - first);
    if (is_written) write_recorded(handle, data + at, next - at, static_cast<off_t>(first + at));
    at = next;
  }
  return -rule.error;
}

int write_file(const char*, const char* data, size_t size, off_t offset, fuse_file_info* info) {
  const Handle& handle = *handle_of(info);
  if (const auto rule = struck("write", handle.path)) {
    if (rule->effect == Effect::kTorn) return write_torn(handle, *rule, data, size, offset);
    if (rule->effect == Effect::kFail || rule->bytes == 0) return -rule->error;
    size = std::min<size_t>(size, rule->bytes);
  }
  return static_cast<int>(write_recorded(handle, data, size, offset));
}

int truncate_file(const char* path, off_t size, fuse_file_info* info) {
  const std::string named = info != nullptr ? handle_of(info)->path : path;
  const Operation operation{.kind = Kind::kTruncate, .offset = static_cast<uint64_t>(size), .path = named};
  return changed("truncate", operation, [&](Operation* done) {
    if (info != nullptr) {
      done->file = handle_of(info)->file;
      return errno_of(::ftruncate(handle_of(info)->fd, size));
    }
    const int fd = ::open(self->under(path).c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    done->file = self->file_of(fd);
    const int error = errno_of(::ftruncate(fd, size));
    ::close(fd);
    return error;
  });
}

int allocate_file(const char*, int mode, off_t offset, off_t length, fuse_file_info* info) {
  if (mode != 0)
    return -EOPNOTSUPP;  // nobody who writes here punches holes; a base that is a loop file may not lie here
  const Handle& handle = *handle_of(info);
  const Operation operation{.kind = Kind::kFallocate,
                            .file = handle.file,
                            .offset = static_cast<uint64_t>(offset),
                            .length = static_cast<uint64_t>(length),
                            .path = handle.path};
  return changed("fallocate", operation,
                 [&](Operation*) { return errno_of(::fallocate(handle.fd, 0, offset, length)); });
}

/// Not under `order`: other operations go on meanwhile, and only those that ended before it began are
/// covered.
int synced(std::string_view name, Operation operation, int fd) {
  self->log.begin(&operation);
  const auto rule = struck(name, operation.path);
  operation.error = rule ? rule->error : errno_of(operation.is_data_only ? ::fdatasync(fd) : ::fsync(fd));
  self->log.end(&operation);
  return -operation.error;
}

int sync_file(const char*, int is_data_only, fuse_file_info* info) {
  const Handle& handle = *handle_of(info);
  return synced(
      "sync",
      {.kind = Kind::kSync, .is_data_only = is_data_only != 0, .file = handle.file, .path = handle.path},
      handle.fd);
}

int open_directory(const char* path, fuse_file_info* info) {
  auto handle = std::make_unique<Handle>();
  handle->fd = ::open(self->under(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle->fd < 0) return -errno;
  handle->path = path;
  info->fh = reinterpret_cast<uint64_t>(handle.release());
  return 0;
}

int read_directory(const char*, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info* info,
                   fuse_readdir_flags) {
  const int copy = ::openat(handle_of(info)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const entries = copy < 0 ? nullptr : ::fdopendir(copy);
  if (entries == nullptr) return -errno;
  while (const dirent* entry = ::readdir(entries))
    fill(buffer, entry->d_name, nullptr, 0, fuse_fill_dir_flags{});
  ::closedir(entries);
  return 0;
}

int sync_directory(const char*, int is_data_only, fuse_file_info* info) {
  const Handle& handle = *handle_of(info);
  return synced("syncdir",
                {.kind = Kind::kSyncDirectory, .is_data_only = is_data_only != 0, .path = handle.path},
                handle.fd);
}

off_t seek_file(const char*, off_t offset, int whence, fuse_file_info* info) {
  const off_t found = ::lseek(handle_of(info)->fd, offset, whence);
  return found < 0 ? -errno : found;
}

int change_mode(const char* path, mode_t mode, fuse_file_info* info) {
  return answer(info != nullptr ? ::fchmod(handle_of(info)->fd, mode)
                                : ::chmod(self->under(path).c_str(), mode));
}

int change_owner(const char* path, uid_t user, gid_t group, fuse_file_info* info) {
  return answer(info != nullptr ? ::fchown(handle_of(info)->fd, user, group)
                                : ::lchown(self->under(path).c_str(), user, group));
}

int change_times(const char* path, const timespec times[2], fuse_file_info* info) {
  return answer(info != nullptr
                    ? ::futimens(handle_of(info)->fd, times)
                    : ::utimensat(AT_FDCWD, self->under(path).c_str(), times, AT_SYMLINK_NOFOLLOW));
}

int file_system_status(const char* path, struct statvfs* status) {
  return answer(::statvfs(self->under(path).c_str(), status));
}

void* initialized(fuse_conn_info* connection, fuse_config* config) {
  config->use_ino = 0;
  config->nullpath_ok = 1;
  config->hard_remove = 1;
  config->negative_timeout = 0;
  connection->max_write = kWriteBytesMax;
  // Writes come one by one as they are made, and a truncation by itself.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ATOMIC_O_TRUNC);
  return nullptr;
}

constexpr fuse_operations kCallbacks = {
    .getattr = get_attributes,
    .mkdir = make_directory,
    .unlink = unlink_file,
    .rmdir = remove_directory,
    .rename = rename_file,
    .link = link_file,
    .chmod = change_mode,
    .chown = change_owner,
    .truncate = truncate_file,
    .open = open_file,
    .read = read_file,
    .write = write_file,
    .statfs = file_system_status,
    .release = release_file,
    .fsync = sync_file,
    .opendir = open_directory,
    .readdir = read_directory,
    .releasedir = release_file,
    .fsyncdir = sync_directory,
    .init = initialized,
    .create = create_file,
    .utimens = change_times,
    .fallocate = allocate_file,
    .lseek = seek_file,
};

/// What is there before anything is done: files get their numbers, those above come before those below.
void record_existing() {
  namespace fs = std::filesystem;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(self->backing)) {
    Operation operation{.kind = Kind::kExists, .path = entry.path().string().substr(self->backing.size())};
    struct stat status {};
    if (entry.is_regular_file() && ::lstat(entry.path().c_str(), &status) == 0) {
      uint64_t& number = self->files[status.st_ino];
      if (number == 0) number = ++self->last_file;
      operation.file = number;
    }
    self->log.begin(&operation);
    self->log.end(&operation);
  }
}

int run(char** arguments) {
  Directory directory(arguments[1], arguments[3]);
  self = &directory;
  record_existing();
  ::umask(0);
  const int listener = listen_on(arguments[4]);
  if (listener < 0) {
    std::perror(arguments[4]);
    return 1;
  }
  const char* options[] = {arguments[0], "-o", "fsname=afterimage-fault,allow_other,default_permissions"};
  fuse_args args = FUSE_ARGS_INIT(3, const_cast<char**>(options));
  fuse* const served = fuse_new(&args, &kCallbacks, sizeof kCallbacks, nullptr);
  if (served == nullptr || fuse_mount(served, arguments[2]) != 0) return 1;
  fuse_set_signal_handlers(fuse_get_session(served));
  std::thread control([listener, &directory] { serve_control(listener, &directory.log, &directory.rules); });
  fuse_loop_config* const loop = fuse_loop_cfg_create();
  const int status = fuse_loop_mt(served, loop);
  fuse_loop_cfg_destroy(loop);
  fuse_unmount(served);
  fuse_destroy(served);
  // It waits for clients, for good.
  control.detach();
  directory.log.flush();
  // The signal that ends it is no failure.
  const int result = status == 0 || status == SIGTERM ? 0 : 1;
  std::_Exit(result);
}

}  // namespace
}  // namespace afterimage::fault

int main(int count, char** arguments) {
  if (count != 5) {
    std::fprintf(stderr, "usage: fault-directory BACKING MOUNT_POINT LOG CONTROL_SOCKET\n");
    return 2;
  }
  return afterimage::fault::run(arguments);
}
