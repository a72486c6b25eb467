// What the integration tests of FuseServer and loop devices share: a served device with a loop device over
// it, which is taken down in the right order however the test ends; and running other people's programs
// against it.
#pragma once

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "frontend/fuse_server.h"
#include "frontend/loop_device.h"
#include "scratch_device.h"

namespace afterimage::test {

/// Root, /dev/fuse and loop devices are there; the tests that need them say so and return otherwise.
inline bool can_attach() {
  return ::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0 &&
         ::access("/dev/loop-control", R_OK) == 0;
}

/// Status and output (both streams) of a shell command, ended after `seconds`.
struct ShellResult {
  int status;
  std::string output;
};
inline ShellResult shell(const std::string& command, int seconds = 30) {
  const std::string bounded = "timeout -k 2 " + std::to_string(seconds) + " sh -c '" + command + "' 2>&1";
  FILE* const pipe = ::popen(bounded.c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  std::string output;
  char piece[4096];
  for (size_t n; (n = std::fread(piece, 1, sizeof piece, pipe)) > 0;) output.append(piece, n);
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output};
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char pattern[] = "/tmp/afterimage-test-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);  // never what may still be mounted below it
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Unmounts at the end of its scope.
class MountGuard {
 public:
  explicit MountGuard(std::string path) : path_(std::move(path)) {}
  ~MountGuard() { ::umount2(path_.c_str(), MNT_DETACH); }

 private:
  const std::string path_;
};

/// device → FuseServer → /dev/loopN.
class ServedVolume {
 public:
  explicit ServedVolume(std::shared_ptr<ScratchDevice> device, uint32_t threads = 3, bool read_only = false) {
    auto started = FuseServer::start({.mount_point = directory_.path(),
                                      .file_name = "volume",
                                      .device = device,
                                      .read_only = read_only,
                                      .threads = threads});
    if (!started.ok()) {
      problem_ = started.error().message;
      return;
    }
    server_ = std::move(*started);
    auto attached = attach_loop({.file = file(), .block_size = device->block_size(), .read_only = read_only});
    if (attached.ok()) {
      loop_ = *attached;
    } else {
      problem_ = attached.error().message;
    }
  }
  ~ServedVolume() {
    if (!loop_.empty()) static_cast<void>(detach_loop(loop_).ok());
    if (server_) server_->stop(std::chrono::milliseconds(200));
  }
  const std::string& problem() const { return problem_; }
  const std::string& loop() const { return loop_; }
  const std::string& directory() const { return directory_.path(); }
  std::string file() const { return directory_.path() + "/volume"; }
  FuseServer& server() { return *server_; }
  /// Detaches and forgets the loop device.
  Outcome detach() {
    const Outcome outcome = detach_loop(loop_);
    if (outcome.ok()) loop_.clear();
    return outcome;
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<FuseServer> server_;
  std::string loop_;
  std::string problem_;
};

}  // namespace afterimage::test
