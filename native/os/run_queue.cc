#include "os/run_queue.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <ctime>

namespace afterimage {
namespace {

constexpr uint64_t kLookNs = 20'000'000;
/// Of what was seen before, at each look.
constexpr double kKept = 0.75;

uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

RunQueue::RunQueue() : schedstat_(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {
  look(monotonic_ns());
  waited_ = 0;
}

double RunQueue::waited() {
  if (const uint64_t now_ns = monotonic_ns(); now_ns - seen_ns_ >= kLookNs) look(now_ns);
  return waited_;
}

void RunQueue::look(uint64_t now_ns) {
  std::array<char, 128> text{};
  uint64_t wait_ns = 0;
  if (!schedstat_ || ::pread(schedstat_.get(), text.data(), text.size() - 1, 0) <= 0 ||
      std::sscanf(text.data(), "%*u %" SCNu64, &wait_ns) != 1)
    return;
  const uint64_t passed_ns = std::max<uint64_t>(now_ns - seen_ns_, 1);
  const double share = static_cast<double>(wait_ns - wait_ns_) / static_cast<double>(passed_ns);
  waited_ = kKept * waited_ + (1 - kKept) * std::min(share, 1.0);
  seen_ns_ = now_ns;
  wait_ns_ = wait_ns;
}

}  // namespace afterimage
