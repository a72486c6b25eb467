#include "target.h"

#include <fcntl.h>
#include <libnbd.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace afterimage::torture {
namespace {

class Device final : public Target {
 public:
  explicit Device(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)) {
    if (fd_ < 0 || ::ioctl(fd_, BLKGETSIZE64, &size_) != 0) {
      std::fprintf(stderr, "stamp-writer: %s: %s\n", path.c_str(), std::strerror(errno));
      std::exit(1);
    }
  }
  ~Device() override { ::close(fd_); }

  uint64_t size() const override { return size_; }

  Errno write(std::span<const std::byte> data, uint64_t offset, bool is_fua) override {
    const iovec part{const_cast<std::byte*>(data.data()), data.size()};
    const ssize_t n = ::pwritev2(fd_, &part, 1, static_cast<off_t>(offset), is_fua ? RWF_DSYNC : 0);
    if (n < 0) return errno;
    return static_cast<size_t>(n) == data.size() ? 0 : EIO;
  }
  Errno trim(uint64_t offset, uint64_t length) override { return range(BLKDISCARD, offset, length); }
  Errno zero(uint64_t offset, uint64_t length) override { return range(BLKZEROOUT, offset, length); }
  Errno flush() override { return ::fsync(fd_) == 0 ? 0 : errno; }

 private:
  Errno range(unsigned long request, uint64_t offset, uint64_t length) const {
    uint64_t range[2] = {offset, length};
    return ::ioctl(fd_, request, range) == 0 ? 0 : errno;
  }

  int fd_;
  uint64_t size_ = 0;
};

/// What was not answered when the connection broke is sent again on the next, as QEMU does with
/// `reconnect-delay`; a client that is ending gives it up.
class Export final : public Target {
 public:
  Export(const std::string& uri, const std::atomic<bool>& is_ending) : uri_(uri), is_ending_(is_ending) {
    // Who serves it may have died just now.
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!connect()) {
      if (std::chrono::steady_clock::now() > deadline) {
        std::fprintf(stderr, "stamp-writer: %s: %s\n", uri.c_str(), nbd_get_error());
        std::exit(1);
      }
      std::this_thread::sleep_for(kRetry);
    }
    size_ = static_cast<uint64_t>(nbd_get_size(handle_));
  }
  ~Export() override { nbd_close(handle_); }

  uint64_t size() const override { return size_; }

  Errno write(std::span<const std::byte> data, uint64_t offset, bool is_fua) override {
    const uint32_t flags = is_fua ? LIBNBD_CMD_FLAG_FUA : 0;
    return done([&] { return nbd_pwrite(handle_, data.data(), data.size(), offset, flags); });
  }
  Errno trim(uint64_t offset, uint64_t length) override {
    return done([&] { return nbd_trim(handle_, length, offset, 0); });
  }
  Errno zero(uint64_t offset, uint64_t length) override {
    return done([&] { return nbd_zero(handle_, length, offset, 0); });
  }
  Errno flush() override {
    return done([&] { return nbd_flush(handle_, 0); });
  }

 private:
  static constexpr std::chrono::milliseconds kRetry{20};
  static constexpr std::chrono::seconds kPatience{60};

  bool connect() {
    if (handle_ != nullptr) nbd_close(handle_);
    handle_ = nbd_create();
    return handle_ != nullptr && nbd_connect_uri(handle_, uri_.c_str()) == 0;
  }

  template <typename Operation>
  Errno done(Operation operation) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      if (nbd_aio_is_ready(handle_) == 1) {
        if (operation() == 0) return 0;
        // The server's own answer: the connection lives on.
        if (nbd_aio_is_ready(handle_) == 1) return nbd_get_errno() != 0 ? nbd_get_errno() : EIO;
        if (is_ending_) return ECANCELED;
      }
      if (std::chrono::steady_clock::now() > deadline) return ENOTCONN;
      if (!connect()) std::this_thread::sleep_for(kRetry);
    }
  }

  const std::string uri_;
  const std::atomic<bool>& is_ending_;
  nbd_handle* handle_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace

std::unique_ptr<Target> Target::open(const std::string& name, const std::atomic<bool>& is_ending) {
  if (name.starts_with('/')) return std::make_unique<Device>(name);
  return std::make_unique<Export>(name, is_ending);
}

}  // namespace afterimage::torture
