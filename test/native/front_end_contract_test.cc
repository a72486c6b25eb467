// The contract of front ends, run over each: NbdServer on both kinds of socket, FuseServer's file, and a loop
// device over that.
#include "front_end_contract.h"

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
#include "frontend/nbd_server.h"
#include "nbd_raw_client.h"
#include "scratch_files.h"
#include "served_volume.h"

namespace afterimage {
namespace {

constexpr uint16_t kRead = 0, kWrite = 1, kFlush = 3, kTrim = 4, kWriteZeroes = 6, kFua = 1;
constexpr uint32_t kOptionInfo = 6, kOptionGo = 7, kOptionStructuredReply = 8;

class NbdClient final : public FrontEndClient {
 public:
  /// A modern client uses structured replies and keeps to the block sizes that it asked for.
  NbdClient(RawNbdClient connection, bool is_modern) : nbd_(std::move(connection)), is_modern_(is_modern) {
    nbd_.greet();
    if (is_modern) REQUIRE(nbd_.option(kOptionStructuredReply, {}).back().type == 1);
    learn(nbd_.option(kOptionInfo, info_option("", {3})));
    REQUIRE(nbd_.option(kOptionGo,
                        info_option("", is_modern ? std::vector<uint16_t>{3} : std::vector<uint16_t>{}))
                .back()
                .type == 1);
  }
  uint64_t size() override { return size_; }
  uint32_t block_size() override { return block_size_; }
  uint32_t alignment() override { return is_modern_ ? block_size_ : 1; }

  Errno read(uint64_t offset, Bytes* into) override {
    if (is_modern_) return read_chunks(offset, into);
    const auto length = static_cast<uint32_t>(into->size());
    const Errno error = perform(kRead, 0, offset, length);
    if (error == 0) *into = nbd_.receive(length);
    return error;
  }
  Errno write(uint64_t offset, const Bytes& from) override {
    return perform(kWrite, 0, offset, from.size(), from);
  }
  Errno write_durably(uint64_t offset, const Bytes& from) override {
    return perform(kWrite, kFua, offset, from.size(), from);
  }
  Errno zero(uint64_t offset, uint64_t length) override { return perform(kWriteZeroes, 0, offset, length); }
  Errno trim(uint64_t offset, uint64_t length) override { return perform(kTrim, 0, offset, length); }
  Errno flush() override { return perform(kFlush, 0, 0, 0); }
  void vanish_during_write(uint64_t offset, const Bytes& from,
                           const std::function<void()>& has_arrived) override {
    const auto length = static_cast<uint32_t>(from.size());
    nbd_.request(kWrite, 0, offset, length, from);
    has_arrived();
    nbd_.request(kWrite, 0, offset, length, Bytes(length / 2));  // and half of another
    nbd_.close();
  }

 private:
  void learn(const std::vector<RawNbdClient::OptionReply>& replies) {
    for (const auto& [option, type, data] : replies) {
      if (type != 3) continue;
      const uint64_t kind = number_at(data, 0, 2);
      if (kind == 0) size_ = number_at(data, 2, 8);
      if (kind == 3) block_size_ = static_cast<uint32_t>(number_at(data, 2, 4));
    }
  }
  Errno perform(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length, const Bytes& payload = {}) {
    return static_cast<Errno>(nbd_.perform(type, flags, offset, static_cast<uint32_t>(length), payload));
  }
  Errno read_chunks(uint64_t offset, Bytes* into) {
    nbd_.request(kRead, 0, offset, static_cast<uint32_t>(into->size()));
    uint64_t covered = 0;
    Errno error = 0;
    for (bool is_done = false; !is_done;) {
      const RawNbdClient::Chunk chunk = nbd_.chunk();
      is_done = (chunk.flags & 1) != 0;
      if ((chunk.type & 0x8000) != 0) {
        error = static_cast<Errno>(number_at(chunk.data, 0, 4));
      } else if (chunk.type != 0) {
        const uint64_t at = number_at(chunk.data, 0, 8) - offset;
        const uint64_t length = chunk.type == 2 ? number_at(chunk.data, 8, 4) : chunk.data.size() - 8;
        REQUIRE(at + length <= into->size());
        const auto place = into->begin() + static_cast<ptrdiff_t>(at);
        if (chunk.type == 2) std::fill_n(place, length, std::byte{0});
        if (chunk.type == 1) std::copy(chunk.data.begin() + 8, chunk.data.end(), place);
        covered += length;
      }
    }
    return error == 0 && covered != into->size() ? EIO : error;
  }

  RawNbdClient nbd_;
  const bool is_modern_;
  uint64_t size_ = 0;
  uint32_t block_size_ = 0;
};

class ServedNbd final : public ServedFrontEnd {
 public:
  ServedNbd(const std::shared_ptr<BlockDevice>& device, bool read_only, bool on_tcp) : on_tcp_(on_tcp) {
    NbdServer::Options options;
    if (on_tcp)
      options.tcp_host = "127.0.0.1";
    else
      options.unix_path = path_;
    options.exports = {{"", "", device, read_only}};
    auto server = NbdServer::start(options);
    REQUIRE_MESSAGE(server.ok(), (server.ok() ? "" : server.error().message));
    server_ = std::move(*server);
  }
  std::unique_ptr<FrontEndClient> connect() override {
    return std::make_unique<NbdClient>(on_tcp_ ? RawNbdClient(port()) : RawNbdClient(path_), on_tcp_);
  }
  void stop() override { server_->stop(); }
  std::string remains() override {
    if (!on_tcp_) return std::filesystem::exists(path_) ? path_ : "";
    // A server that listens there now can only be another one if the port is free.
    NbdServer::Options successor;
    successor.tcp_host = "127.0.0.1";
    successor.tcp_port = port();
    return NbdServer::start(successor).ok() ? "" : server_->address();
  }

 private:
  uint16_t port() const {
    const std::string address = server_->address();
    return static_cast<uint16_t>(std::stoul(address.substr(address.rfind(':') + 1)));
  }
  const ScratchDirectory directory_;
  const std::string path_ = directory_.path("socket");
  const bool on_tcp_;
  std::unique_ptr<NbdServer> server_;
};

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
                                     .file_name = "volume",
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
    if (!loop_.empty() && detach_loop(loop_).ok()) loop_.clear();
    server_->stop();
  }
  std::string remains() override {
    if (!loop_.empty()) return loop_;
    std::string line;
    for (std::ifstream mounts("/proc/self/mountinfo"); std::getline(mounts, line);)
      if (line.find(directory_.path()) != std::string::npos) return line;
    return "";
  }

 private:
  /// A server that does not answer would leave its clients asleep beyond the reach of any signal.
  void watch(std::stop_token ended) {
    std::mutex mutex;
    std::condition_variable_any waiting;
    std::unique_lock lock(mutex);
    constexpr std::chrono::seconds kPatience{30};
    if (waiting.wait_for(lock, ended, kPatience, [&] { return ended.stop_requested(); })) return;
    if (!ended.stop_requested()) server_->stop(std::chrono::milliseconds(0));
  }

  const test::TemporaryDirectory directory_;
  const std::string file_ = directory_.path() + "/volume";
  std::unique_ptr<FuseServer> server_;
  std::string loop_;
  std::jthread watchdog_;
};

template <typename Served>
FrontEnd front_end(const char* name, bool variant, bool has_block_layer = false) {
  return {.name = name,
          .has_block_layer = has_block_layer,
          .serve = [variant](const std::shared_ptr<BlockDevice>& device,
                             bool read_only) -> std::unique_ptr<ServedFrontEnd> {
            return std::make_unique<Served>(device, read_only, variant);
          }};
}

}  // namespace

TEST_CASE("an NBD server on a Unix socket keeps the contract of front ends") {
  check_front_end_contract(front_end<ServedNbd>("nbd, unix", false));
}

TEST_CASE("an NBD server on TCP keeps the contract of front ends") {
  check_front_end_contract(front_end<ServedNbd>("nbd, tcp", true));
}

TEST_CASE("a FUSE server's file keeps the contract of front ends") {
  if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) {
    MESSAGE("not run: needs root and /dev/fuse");
    return;
  }
  check_front_end_contract(front_end<ServedFuse>("fuse file", false));
}

TEST_CASE("a loop device over a FUSE server's file keeps the contract of front ends") {
  if (!test::can_attach()) {
    MESSAGE("not run: needs root, /dev/fuse and /dev/loop-control");
    return;
  }
  check_front_end_contract(front_end<ServedFuse>("loop device", true, true));
}

}  // namespace afterimage
