// Threads for work that takes as long as a disk likes. libuv has four for all that a process does, files and
// names included: as many disks that hang would keep everything else waiting, and the end of the process too.
// Here work never waits for other work: it has a thread that is idle, or a new one.
//
// Threads: run() on the main thread of its environment; `work` on one of its own, where it touches no
// JavaScript; `settle` on the main thread. Ownership: an environment has one, in its AddonData. Threads
// belong to the process, which ends without them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace afterimage::binding {

class Apart {
 public:
  explicit Apart(Napi::Env env);
  ~Apart();
  Apart(const Apart&) = delete;
  Apart& operator=(const Apart&) = delete;

  /// Does `work`, then `settle`; the environment lives until then. Of one that is ended nevertheless `settle`
  /// is not called, and what it holds is never let go. Errors: MEMORY_UNAVAILABLE, as a Napi::Error: there is
  /// no thread to be had, and neither is called.
  void run(Napi::Env env, std::function<void()> work, std::function<void(Napi::Env)> settle);

 private:
  struct Job;
  struct Door;
  static void settle(Napi::Env env, Napi::Function, Apart* self, Job* job);
  static void close(void* door);
  using Done = Napi::TypedThreadSafeFunction<Apart, Job, settle>;

  const std::shared_ptr<Door> door_;
  uint64_t pending_ = 0;
};

}  // namespace afterimage::binding
