#include "binding/apart.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "binding/values.h"
#include "os/io_thread.h"

namespace afterimage::binding {
namespace {

/// So long a thread waits for more work.
constexpr std::chrono::seconds kIdle{10};

/// Of the process. Never destroyed: a thread whose disk hangs is there until the process is not.
class Threads {
 public:
  static Threads& all() {
    static Threads* const threads = new Threads;
    return *threads;
  }

  /// Errors: std::system_error when there is no thread to be had.
  void run(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    if (idle_ == waiting_.size()) {
      std::thread([this] { serve(); }).detach();
      ++idle_;
    }
    waiting_.push_back(std::move(work));
    changed_.notify_one();
  }

 private:
  void serve() {
    enter_thread("apart");
    std::unique_lock lock(mutex_);
    while (changed_.wait_for(lock, kIdle, [this] { return !waiting_.empty(); })) {
      const std::function<void()> work = std::move(waiting_.front());
      waiting_.pop_front();
      --idle_;
      lock.unlock();
      work();
      lock.lock();
      ++idle_;
    }
    --idle_;
  }

  std::mutex mutex_;  // what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  size_t idle_ = 0;  // threads that do nothing, or have not begun: never fewer than there is work that waits
};

}  // namespace

/// Where results come back to. The environment frees the function when it ends, whoever still has it.
struct Apart::Door {
  std::mutex mutex;  // what follows
  bool is_open = true;
  Done done;
};

struct Apart::Job {
  std::shared_ptr<Door> door;
  std::function<void()> work;
  std::function<void(Napi::Env)> settle;

  void run() {
    work();
    const std::shared_ptr<Door> back = door;
    const std::lock_guard lock(back->mutex);
    if (back->is_open) back->done.NonBlockingCall(this);
  }
};

Apart::Apart(Napi::Env env) : door_(std::make_shared<Door>()) {
  door_->done = Done::New(env, "afterimage apart", 0, 1, this);
  door_->done.Unref(env);
  napi_add_env_cleanup_hook(env, close, door_.get());  // after the function's own: the last one runs first
}

Apart::~Apart() { close(door_.get()); }

void Apart::close(void* door) {
  auto& closing = *static_cast<Door*>(door);
  const std::lock_guard lock(closing.mutex);
  closing.is_open = false;
}

void Apart::run(Napi::Env env, std::function<void()> work, std::function<void(Napi::Env)> settle) {
  auto job = std::make_unique<Job>(Job{door_, std::move(work), std::move(settle)});
  try {
    Threads::all().run([job = job.get()] { job->run(); });
  } catch (const std::system_error& failure) {
    throw_error(env, system_error("MEMORY_UNAVAILABLE", "a thread", failure.code().value()));
  }
  static_cast<void>(job.release());
  if (pending_++ == 0) door_->done.Ref(env);
}

void Apart::settle(Napi::Env env, Napi::Function, Apart* self, Job* job) {
  if (env == nullptr) return;  // the environment is going away, and so may `self` be
  const Napi::HandleScope scope(env);
  const std::unique_ptr<Job> owned(job);
  if (--self->pending_ == 0) self->door_->done.Unref(env);
  job->settle(env);
}

}  // namespace afterimage::binding
