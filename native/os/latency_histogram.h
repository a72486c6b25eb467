// LatencyHistogram: how long requests took, in buckets that double. Two clock readings and three additions a
// request: it is on the I/O path.
//
// Threads: add() and snapshot() from any, at the same time; a snapshot may miss what is being added. No
// allocation.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>

namespace afterimage {

class LatencyHistogram {
 public:
  /// Upper bounds: 16 µs, 32 µs … 16 µs · 2^(kBuckets−2) (about 17 s); the last bucket has none.
  static constexpr int kBuckets = 22;
  static constexpr uint64_t kFirstBoundNs = 16'000;
  static constexpr uint64_t bound_ns(int bucket) { return kFirstBoundNs << bucket; }

  struct Snapshot {
    std::array<uint64_t, kBuckets> counts{};  // of each bucket alone
    uint64_t sum_ns = 0;
  };

  void add(uint64_t ns) {
    counts_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(ns, std::memory_order_relaxed);
  }
  Snapshot snapshot() const {
    Snapshot snapshot;
    for (int bucket = 0; bucket < kBuckets; ++bucket)
      snapshot.counts[bucket] = counts_[bucket].load(std::memory_order_relaxed);
    snapshot.sum_ns = sum_ns_.load(std::memory_order_relaxed);
    return snapshot;
  }

  /// The first bucket whose bound is not exceeded.
  static int bucket_of(uint64_t ns) {
    if (ns <= kFirstBoundNs) return 0;
    const auto doublings = static_cast<int>(std::bit_width((ns - 1) / kFirstBoundNs));
    return doublings < kBuckets ? doublings : kBuckets - 1;
  }

  /// Adds the time from its construction to its end.
  class Timer {
   public:
    explicit Timer(LatencyHistogram& histogram) : histogram_(histogram) {}
    ~Timer() {
      const auto taken = std::chrono::steady_clock::now() - begun_;
      histogram_.add(
          static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count()));
    }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

   private:
    LatencyHistogram& histogram_;
    const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  };

 private:
  std::array<std::atomic<uint64_t>, kBuckets> counts_{};
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace afterimage
