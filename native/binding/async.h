// Work on libuv's worker threads, settled as a promise on the main thread.
//
// Threads: run_async() on the main thread; `work` on a worker thread, where it touches no JavaScript;
// `convert` on the main thread. `keep` holds what `work` points into (buffers, devices) until the promise is
// settled.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "binding/values.h"
#include "os/result.h"

namespace afterimage::binding {

template <typename T>
class Work final : public Napi::AsyncWorker {
 public:
  using Run = std::function<Result<T>()>;
  using Convert = std::function<Napi::Value(Napi::Env, T&)>;

  Work(Napi::Env env, Run run, Convert convert, std::vector<Napi::Value> keep)
      : Napi::AsyncWorker(env), deferred_(env), run_(std::move(run)), convert_(std::move(convert)) {
    for (const Napi::Value& value : keep) kept_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { result_.emplace(run_()); }
  void OnOK() override {
    const Napi::HandleScope scope(Env());
    if (!result_->ok()) {
      deferred_.Reject(to_js_error(Env(), result_->error()).Value());
      return;
    }
    try {
      deferred_.Resolve(convert_(Env(), **result_));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  Run run_;
  Convert convert_;
  std::optional<Result<T>> result_;
  std::vector<Napi::ObjectReference> kept_;
};

template <typename T>
Napi::Value run_async(Napi::Env env, typename Work<T>::Run run, typename Work<T>::Convert convert,
                      std::vector<Napi::Value> keep = {}) {
  auto* work =
      new Work<T>(env, std::move(run), std::move(convert), std::move(keep));  // deletes itself when settled
  const Napi::Promise promise = work->promise();
  work->Queue();
  return promise;
}

/// Whether a thread-safe function still exists: an environment that goes away destroys it before the objects
/// that hold it, whose destructors must then leave it alone. Pass gone() and watch() to its New().
class FunctionLife {
 public:
  bool over() const { return *over_; }
  std::shared_ptr<bool>* watch() const { return new std::shared_ptr<bool>(over_); }
  template <typename Context>
  static void gone(Napi::Env, std::shared_ptr<bool>* over, Context*) {
    **over = true;
    delete over;
  }

 private:
  std::shared_ptr<bool> over_ = std::make_shared<bool>(false);
};

inline Napi::Value undefined(Napi::Env env, Nothing&) { return env.Undefined(); }

/// An I/O request on a device, as a promise of nothing.
inline Outcome from_errno(Errno error, const char* what) {
  if (error == 0) return Nothing{};
  return system_error("IO_ERROR", what, error);
}

}  // namespace afterimage::binding
