#include "front_end_fuse.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "frontend/fuse_server.h"
#include "frontend/loop_device.h"
#include "served_volume.h"

namespace afterimage {
namespace {

/// A program that has the served file, or the block device over it, open with O_DIRECT.
class FileClient final : public FrontEndClient {
 public:
  FileClient(const std::string& path, bool is_block_device) : is_block_device_(is_block_device) {
    constexpr int kFlags = O_RDWR | O_DIRECT | O_CLOEXEC;
    file_.reset(::open(path.c_str(), kFlags));
    if (!file_) {
      // Who may not write does not come further than this.
      refusal_ = errno;
      file_.reset(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    } else {
      durable_file_.reset(::open(path.c_str(), kFlags | O_DSYNC));
      REQUIRE(durable_file_);
    }
    REQUIRE_MESSAGE(file_, path);
  }
  ~FileClient() override {
    if (child_ < 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  uint64_t size() override {
    uint64_t bytes = 0;
    struct stat status {};
    if (is_block_device_) {
      REQUIRE(::ioctl(file_.get(), BLKGETSIZE64, &bytes) == 0);
    } else {
      REQUIRE(::fstat(file_.get(), &status) == 0);
      bytes = static_cast<uint64_t>(status.st_size);
    }
    return bytes;
  }
  uint32_t block_size() override {
    int block_bytes = 0;
    struct statvfs status {};
    if (is_block_device_) {
      REQUIRE(::ioctl(file_.get(), BLKSSZGET, &block_bytes) == 0);
    } else {
      REQUIRE(::fstatvfs(file_.get(), &status) == 0);
      block_bytes = static_cast<int>(status.f_bsize);
    }
    return static_cast<uint32_t>(block_bytes);
  }
  uint32_t alignment() override { return is_block_device_ ? block_size() : 1; }

  Errno read(uint64_t offset, Bytes* into) override {
    reserve(into->size());
    const ssize_t count = ::pread(file_.get(), buffer_.get(), into->size(), static_cast<off_t>(offset));
    if (count < 0) return errno;
    if (static_cast<size_t>(count) != into->size()) return EINVAL;
    std::memcpy(into->data(), buffer_.get(), into->size());
    return 0;
  }
  Errno write(uint64_t offset, const Bytes& from) override { return write_through(file_, offset, from); }
  Errno write_durably(uint64_t offset, const Bytes& from) override {
    return write_through(durable_file_, offset, from);
  }
  Errno zero(uint64_t offset, uint64_t length) override {
    return clear(BLKZEROOUT, FALLOC_FL_ZERO_RANGE, offset, length);
  }
  Errno trim(uint64_t offset, uint64_t length) override {
    return clear(BLKDISCARD, FALLOC_FL_PUNCH_HOLE, offset, length);
  }
  Errno flush() override { return ::fsync(file_.get()) == 0 ? 0 : errno; }
  /// The program is killed. The kernel lets it go once the request that the server has read is answered.
  void vanish_during_write(uint64_t offset, const Bytes& from,
                           const std::function<void()>& has_arrived) override {
    fill(from);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      // Asleep in this write it must not be what keeps the server's end of /dev/fuse open.
      const auto file = static_cast<unsigned>(file_.get());
      ::close_range(STDERR_FILENO + 1, file - 1, 0);
      ::close_range(file + 1, ~0U, 0);
      static_cast<void>(!::pwrite(file_.get(), buffer_.get(), from.size(), static_cast<off_t>(offset)));
      ::_exit(0);
    }
    has_arrived();
    ::kill(child_, SIGKILL);
  }

 private:
  void reserve(size_t bytes) {
    if (bytes <= buffer_bytes_) return;
    constexpr size_t kPageBytes = 4096;
    buffer_bytes_ = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, buffer_bytes_)));
    REQUIRE(buffer_);
  }
  void fill(const Bytes& from) {
    reserve(from.size());
    std::memcpy(buffer_.get(), from.data(), from.size());
  }
  Errno write_through(const Fd& file, uint64_t offset, const Bytes& from) {
    if (refusal_ != 0) return refusal_;
    fill(from);
    const ssize_t count = ::pwrite(file.get(), buffer_.get(), from.size(), static_cast<off_t>(offset));
    if (count < 0) return errno;
    return static_cast<size_t>(count) == from.size() ? 0 : ENOSPC;
  }
  Errno clear(unsigned long device_request, int file_mode, uint64_t offset, uint64_t length) {
    if (refusal_ != 0) return refusal_;
    uint64_t range[2] = {offset, length};
    const int status = is_block_device_ ? ::ioctl(file_.get(), device_request, range)
                                        : ::fallocate(file_.get(), file_mode | FALLOC_FL_KEEP_SIZE,
                                                      static_cast<off_t>(offset), static_cast<off_t>(length));
    return status == 0 ? 0 : errno;
  }

  struct Free {
    void operator()(std::byte* buffer) const { std::free(buffer); }
  };
  const bool is_block_device_;
  Errno refusal_ = 0;
  Fd file_;
  Fd durable_file_;
  std::unique_ptr<std::byte, Free> buffer_;
  size_t buffer_bytes_ = 0;
  pid_t child_ = -1;
};

class ServedFuse final : public ServedFrontEnd {
 public:
  ServedFuse(const std::shared_ptr<BlockDevice>& device, bool read_only, bool with_loop) {
    auto server = FuseServer::start({.mount_point = directory_.path(),
                                     .file_name = name_,
                                     .device = device,
                                     .read_only = read_only,
                                     .threads = 4});
    REQUIRE_MESSAGE(server.ok(), (server.ok() ? "" : server.error().message));
    server_ = std::move(*server);
    if (with_loop) {
      const auto loop = attach_loop(
          {.file = file_, .block_size = device->block_size(), .read_only = read_only || device->read_only()});
      REQUIRE_MESSAGE(loop.ok(), (loop.ok() ? "" : loop.error().message));
      loop_ = *loop;
      is_attached_ = true;
    }
    watchdog_ = std::jthread([this](std::stop_token ended) { watch(ended); });
  }
  ~ServedFuse() override { stop(); }
  std::unique_ptr<FrontEndClient> connect() override {
    return std::make_unique<FileClient>(loop_.empty() ? file_ : loop_, !loop_.empty());
  }
  void stop() override {
    watchdog_.request_stop();
    if (watchdog_.joinable()) watchdog_.join();
    if (is_attached_) is_attached_ = !detach_loop(loop_).ok();
    server_->stop();
  }
  std::string remains() override {
    std::vector<std::string> places = {"/proc/self/mountinfo"};
    if (!loop_.empty())
      places.push_back("/sys/block" + loop_.substr(loop_.rfind('/')) + "/loop/backing_file");
    std::string line;
    for (const std::string& place : places)
      for (std::ifstream lines(place); std::getline(lines, line);)
        if (line.find(name_) != std::string::npos) return place + ": " + line;
    return "";
  }

 private:
  /// A server that does not answer would leave its clients asleep beyond the reach of any signal.
  void watch(std::stop_token ended) {
    std::mutex mutex;
    std::condition_variable_any waiting;
    std::unique_lock lock(mutex);
    constexpr std::chrono::seconds kPatience{20};
    if (waiting.wait_for(lock, ended, kPatience, [&] { return ended.stop_requested(); })) return;
    if (!ended.stop_requested()) server_->stop(std::chrono::milliseconds(0));
  }

  const test::TemporaryDirectory directory_;
  /// Like the directory: what is left of a loop device no longer tells where its file was mounted.
  const std::string name_ = std::filesystem::path(directory_.path()).filename();
  const std::string file_ = directory_.path() + "/" + name_;
  std::unique_ptr<FuseServer> server_;
  std::string loop_;  // "" without
  bool is_attached_ = false;
  std::jthread watchdog_;
};

FrontEnd front_end(const char* name, bool with_loop) {
  return {.name = name,
          .has_block_layer = with_loop,
          .serve = [with_loop](const std::shared_ptr<BlockDevice>& device, bool read_only) {
            return std::make_unique<ServedFuse>(device, read_only, with_loop);
          }};
}

}  // namespace

FrontEnd fuse_file_front_end() { return front_end("fuse file", false); }

FrontEnd loop_device_front_end() { return front_end("loop device", true); }

}  // namespace afterimage
