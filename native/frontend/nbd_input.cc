#include "frontend/nbd_input.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "frontend/nbd_protocol.h"
#include "os/assert.h"

namespace afterimage {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPageBytes = 4096;
/// Where payloads begin in an empty buffer, so that large ones can go to a direct backing without being
/// copied.
constexpr size_t kPayloadHome = kPageBytes;
constexpr size_t kHeaderHome = kPayloadHome - nbd::kRequestBytes;
static_assert(kNbdInputBytes == kPayloadHome + kNbdPieceBytes && kNbdInputBytes % kPageBytes == 0);

/// Above this, only the payload itself is received: the next request then begins in an empty buffer.
constexpr size_t kLargePayloadBytes = 64 << 10;

/// Sleeping and being woken costs more than most requests take: at depth 1, waiting awake for this long
/// gives 1.5 to 2 times the requests per second where a processor is free for it. Where none is, it takes the
/// client's: after each fruitless spin the next are left out, twice as many each time up to this maximum, and
/// never do all processors spin.
constexpr auto kSpin = std::chrono::microseconds(25);
constexpr uint32_t kSpinsSkippedMax = 255;
std::atomic<uint32_t> spinners{0};

/// A TCP client that goes on sending must not keep a stopping server alive.
constexpr uint32_t kReceivesAfterStopMax = 16;

class Spinner {
 public:
  Spinner() {
    static const uint32_t processors = std::max(1u, std::thread::hardware_concurrency());
    allowed_ = spinners.fetch_add(1, std::memory_order_relaxed) + 1 < processors;
  }
  ~Spinner() { spinners.fetch_sub(1, std::memory_order_relaxed); }
  Spinner(const Spinner&) = delete;
  Spinner& operator=(const Spinner&) = delete;
  bool allowed() const { return allowed_; }

 private:
  bool allowed_;
};

}  // namespace

NbdInput::NbdInput(int socket, const std::atomic<bool>& stopping, std::span<std::byte> buffer)
    : socket_(socket), stopping_(stopping), buffer_(buffer) {
  AFTERIMAGE_ASSERT(buffer.size() == kNbdInputBytes, "payloads that lie where they were received");
}

bool NbdInput::fill_header() { return fill(nbd::kRequestBytes, kHeaderHome); }

bool NbdInput::fill_payload(size_t bytes) { return fill(bytes, kPayloadHome); }

bool NbdInput::fill(size_t bytes, size_t home) {
  if (available() >= bytes) return true;
  if (available() == 0 || begin_ + bytes > kNbdInputBytes) {
    std::memmove(buffer_.data() + home, data(), available());
    end_ = home + available();
    begin_ = home;
  }
  while (available() < bytes) {
    const size_t missing = bytes - available();
    const ssize_t count = receive(missing > kLargePayloadBytes ? missing : kNbdInputBytes - end_);
    if (count <= 0) return false;
    end_ += static_cast<size_t>(count);
  }
  return true;
}

ssize_t NbdInput::receive(size_t limit) {
  if (stopping_.load(std::memory_order_relaxed) && ++receives_after_stop_ > kReceivesAfterStopMax) return 0;
  std::byte* const into = buffer_.data() + end_;
  ssize_t count = -1;
  if (spins_to_skip_ > 0) {
    --spins_to_skip_;
  } else if (const Spinner spinner; spinner.allowed()) {
    count = ::recv(socket_, into, limit, MSG_DONTWAIT);
    if (count >= 0) return count;  // it was there already
    const Clock::time_point began = Clock::now();
    while (count < 0 && errno == EAGAIN && Clock::now() - began < kSpin)
      count = ::recv(socket_, into, limit, MSG_DONTWAIT);
    spins_wasted_ = count >= 0 ? 0 : std::min(2 * spins_wasted_ + 1, kSpinsSkippedMax);
    spins_to_skip_ = spins_wasted_;
    if (count >= 0) return count;
  }
  do count = ::recv(socket_, into, limit, 0);
  while (count < 0 && errno == EINTR);
  return count;
}

}  // namespace afterimage
