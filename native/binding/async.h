// Work off the main thread, settled as a promise on it.
//
//   run_async()  on libuv's worker threads, which are few and everybody's: what is bounded by them, and ends
//   run_apart()  on a thread of its own: what may wait for a volume's disk, or whoever else may never answer
//
// Threads: run_async() and run_apart() on the main thread; `work` on another one, where it touches no
// JavaScript; `convert` on the main thread. `keep` holds what `work` points into (buffers, devices) until the
// promise is settled.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "binding/addon_data.h"
#include "binding/values.h"
#include "os/result.h"

namespace afterimage::binding {

template <typename T>
class Work final {
 public:
  using Run = std::function<Result<T>()>;
  using Convert = std::function<Napi::Value(Napi::Env, T&)>;

  Work(Napi::Env env, Run run, Convert convert, std::vector<Napi::Value> keep)
      : deferred_(env), run_(std::move(run)), convert_(std::move(convert)) {
    for (const Napi::Value& value : keep) kept_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }
  Napi::Promise promise() const { return deferred_.Promise(); }
  void run() { result_.emplace(run_()); }
  void settle(Napi::Env env) {
    const Napi::HandleScope scope(env);
    if (!result_->ok()) return deferred_.Reject(to_js_error(env, result_->error()).Value());
    try {
      deferred_.Resolve(convert_(env, **result_));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }
  void fail(const Napi::Error& error) { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  Run run_;
  Convert convert_;
  std::optional<Result<T>> result_;
  std::vector<Napi::ObjectReference> kept_;
};

template <typename T>
class QueuedWork final : public Napi::AsyncWorker {
 public:
  QueuedWork(Napi::Env env, std::unique_ptr<Work<T>> work) : Napi::AsyncWorker(env), work_(std::move(work)) {}

 protected:
  void Execute() override { work_->run(); }
  void OnOK() override { work_->settle(Env()); }
  void OnError(const Napi::Error& error) override { work_->fail(error); }

 private:
  const std::unique_ptr<Work<T>> work_;
};

template <typename T>
Napi::Value run_async(Napi::Env env, typename Work<T>::Run run, typename Work<T>::Convert convert,
                      std::vector<Napi::Value> keep = {}) {
  auto work = std::make_unique<Work<T>>(env, std::move(run), std::move(convert), std::move(keep));
  const Napi::Promise promise = work->promise();
  (new QueuedWork<T>(env, std::move(work)))->Queue();  // deletes itself when settled
  return promise;
}

template <typename T>
Napi::Value run_apart(Napi::Env env, typename Work<T>::Run run, typename Work<T>::Convert convert,
                      std::vector<Napi::Value> keep = {}) {
  auto work = std::make_shared<Work<T>>(env, std::move(run), std::move(convert), std::move(keep));
  auto failure = std::make_shared<std::string>();
  const Napi::Promise promise = work->promise();
  AddonData::of(env).apart.run(
      env,
      [work = work.get(), failure] {
        try {
          work->run();
        } catch (const std::exception& error) {
          *failure = error.what();
        }
      },
      [work, failure](Napi::Env settling) {
        if (failure->empty()) return work->settle(settling);
        const Napi::HandleScope scope(settling);
        work->fail(Napi::Error::New(settling, *failure));
      });
  return promise;
}

inline Napi::Value undefined(Napi::Env env, Nothing&) { return env.Undefined(); }

/// An I/O request on a device, as a promise of nothing.
inline Outcome from_errno(Errno error, const char* what) {
  if (error == 0) return Nothing{};
  return system_error("IO_ERROR", what, error);
}

}  // namespace afterimage::binding
