#include "capture/extent_lock.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

using namespace afterimage;
using namespace std::chrono_literals;

namespace {

/// Long enough for a thread that is able to run to have run.
constexpr auto kSettle = 30ms;

/// A guard taken on a thread of its own, so that a test can watch it wait.
class Waiter {
 public:
  Waiter(ExtentLock& lock, uint64_t begin, uint64_t end)
      : thread_([this, &lock, begin, end] {
          const ExtentLock::Guard guard(lock, begin, end);
          holds_ = true;
          while (!let_go_) std::this_thread::sleep_for(1ms);
        }) {}
  ~Waiter() { release(); }
  bool holds() const {
    std::this_thread::sleep_for(kSettle);
    return holds_;
  }
  void wait_until_held() const {
    while (!holds_) std::this_thread::sleep_for(1ms);
  }
  void release() {
    let_go_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> holds_{false};
  std::atomic<bool> let_go_{false};
  std::thread thread_;
};

}  // namespace

TEST_CASE("extent lock: ranges that only touch do not wait for each other") {
  ExtentLock lock;
  const ExtentLock::Guard first(lock, 0, 4096);
  const ExtentLock::Guard second(lock, 4096, 8192);
  const ExtentLock::Guard third(lock, 512 * 1024, 1 << 20);
}

TEST_CASE("extent lock: a waiter is not overtaken by a later one that overlaps it") {
  ExtentLock lock;
  auto held = std::make_unique<Waiter>(lock, 0, 4096);
  held->wait_until_held();
  Waiter large(lock, 0, 1 << 20);  // awaits `held`
  CHECK_FALSE(large.holds());
  Waiter behind(lock, 8192, 12288);  // free now, but overlaps the earlier waiter
  CHECK_FALSE(behind.holds());
  Waiter elsewhere(lock, 1 << 20, 2 << 20);
  elsewhere.wait_until_held();
  held->release();
  large.wait_until_held();
  CHECK_FALSE(behind.holds());
  large.release();
  behind.wait_until_held();
}

TEST_CASE("extent lock: a range freed by several holders waits for the last of them") {
  ExtentLock lock;
  Waiter a(lock, 0, 512), b(lock, 512, 1024);
  a.wait_until_held();
  b.wait_until_held();
  Waiter both(lock, 0, 1024);
  b.release();
  CHECK_FALSE(both.holds());
  a.release();
  both.wait_until_held();
}

TEST_CASE("extent lock: drain waits for what was there, and for nothing that came later") {
  ExtentLock lock;
  Waiter held(lock, 0, 4096);
  held.wait_until_held();
  Waiter waiting(lock, 0, 4096);
  CHECK_FALSE(waiting.holds());
  std::atomic<bool> drained{false};
  std::thread drainer([&] {
    lock.drain();
    drained = true;
  });
  std::this_thread::sleep_for(kSettle);
  Waiter later(lock, 8192, 12288);
  later.wait_until_held();  // not delayed by the drain
  held.release();
  waiting.wait_until_held();
  std::this_thread::sleep_for(kSettle);
  CHECK_FALSE(drained);
  waiting.release();
  drainer.join();  // does not wait for `later`
  CHECK(drained);
}

TEST_CASE("extent lock: random overlapping ranges are never held together") {
  ExtentLock lock;
  std::vector<std::atomic<int>> sectors(64);
  std::atomic<int> collisions{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int round = 0; round < 2000; ++round) {
        const uint64_t begin = random() % 64;
        const uint64_t end = begin + 1 + random() % (64 - begin);
        const ExtentLock::Guard guard(lock, begin, end);
        for (uint64_t s = begin; s < end; ++s) collisions += sectors[s].fetch_add(1) != 0;
        if (round % 64 == 0) std::this_thread::yield();
        for (uint64_t s = begin; s < end; ++s) sectors[s].fetch_sub(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(collisions == 0);
}
