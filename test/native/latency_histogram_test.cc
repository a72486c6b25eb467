#include "os/latency_histogram.h"

#include <doctest/doctest.h>

#include <numeric>
#include <thread>
#include <vector>

namespace afterimage {
namespace {

TEST_CASE("each latency is in the bucket whose bound it does not exceed") {
  for (int bucket = 0; bucket < LatencyHistogram::kBuckets - 1; ++bucket) {
    const uint64_t bound = LatencyHistogram::bound_ns(bucket);
    CAPTURE(bound);
    CHECK(LatencyHistogram::bucket_of(bound) == bucket);
    CHECK(LatencyHistogram::bucket_of(bound - 1) == bucket);
    CHECK(LatencyHistogram::bucket_of(bound + 1) == bucket + 1);
  }
  CHECK(LatencyHistogram::bucket_of(0) == 0);
  CHECK(LatencyHistogram::bucket_of(UINT64_MAX) == LatencyHistogram::kBuckets - 1);
}

TEST_CASE("what several threads add is all there") {
  LatencyHistogram histogram;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&histogram] {
      for (uint64_t ns = 1; ns <= 100'000; ++ns) histogram.add(ns);
    });
  for (std::thread& thread : threads) thread.join();
  const LatencyHistogram::Snapshot snapshot = histogram.snapshot();
  CHECK(std::accumulate(snapshot.counts.begin(), snapshot.counts.end(), uint64_t{0}) == 400'000);
  CHECK(snapshot.counts[0] == 4 * 16'000);
  CHECK(snapshot.counts[1] == 4 * 16'000);
  CHECK(snapshot.sum_ns == 4 * (uint64_t{100'000} * 100'001 / 2));
}

TEST_CASE("a timer adds what passed") {
  LatencyHistogram histogram;
  {
    const LatencyHistogram::Timer timer(histogram);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(histogram.snapshot().sum_ns >= 2'000'000);
}

}  // namespace
}  // namespace afterimage
