#include "os/run_queue.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using namespace afterimage;

namespace {

/// Busy until `done`, on the first processor that this process may use.
void spin_on_one(const std::atomic<bool>& done, RunQueue* watched, double* most) {
  cpu_set_t allowed;
  cpu_set_t one;
  CPU_ZERO(&one);
  sched_getaffinity(0, sizeof allowed, &allowed);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &allowed)) ++cpu;
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
  while (!done)
    if (watched != nullptr) *most = std::max(*most, watched->waited());
}

}  // namespace

TEST_CASE("a thread that shares its processor knows that it waits, and one that sleeps does not") {
  if (::access("/proc/thread-self/schedstat", R_OK) != 0) return;  // the kernel does not tell
  std::atomic<bool> done = false;
  double most = 0;
  std::thread watched([&] {
    RunQueue queue;
    spin_on_one(done, &queue, &most);
  });
  std::vector<std::thread> others;
  for (int i = 0; i < 3; ++i) others.emplace_back([&] { spin_on_one(done, nullptr, nullptr); });
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  done = true;
  watched.join();
  for (std::thread& other : others) other.join();
  CHECK(most > 0.4);  // three quarters of its time

  double asleep = 1;
  std::thread([&] {
    RunQueue queue;
    for (int i = 0; i < 30; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      asleep = std::min(asleep, queue.waited());
    }
  }).join();
  CHECK(asleep < 0.1);
}
