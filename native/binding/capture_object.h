// CaptureGroup of native/index.ts.
//
// Threads: main thread. The pump's on_ready is carried over by a thread-safe function; it says only that
// next() is worth another try, so a late or repeated call does no harm. Ownership: shares the group with its
// volumes and the frames lent; close() ends it whoever shares it. A frame's buffer keeps only the pool's
// memory.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <vector>

#include "capture/capture_group.h"
#include "capture/dirty_log_cleaner.h"

namespace afterimage::binding {

class CaptureObject : public Napi::ObjectWrap<CaptureObject> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value adopt(const Napi::CallbackInfo& info);
  explicit CaptureObject(const Napi::CallbackInfo& info);
  ~CaptureObject() override;

 private:
  static void ready(Napi::Env env, Napi::Function, CaptureObject* self, void*);
  using Ready = Napi::TypedThreadSafeFunction<CaptureObject, void, ready>;

  Napi::Value add_volume(const Napi::CallbackInfo& info);
  static Napi::Value wrap(Napi::Env env, Result<std::unique_ptr<CaptureGroup>>& group,
                          const DirtyLogCleaner::Pace& pace);
  Napi::Value resume_generation(const Napi::CallbackInfo& info);
  Napi::Value ring_descriptor(const Napi::CallbackInfo& info);
  Napi::Value begin_generation(const Napi::CallbackInfo& info);
  Napi::Value close_stream(const Napi::CallbackInfo& info);
  Napi::Value resume_clock(const Napi::CallbackInfo& info);
  Napi::Value abandon_stream(const Napi::CallbackInfo& info);
  Napi::Value raise_ceiling(const Napi::CallbackInfo& info);
  Napi::Value start_shipping(const Napi::CallbackInfo& info);
  Napi::Value stop_shipping(const Napi::CallbackInfo& info);
  Napi::Value next(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value position(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  /// The environment ends. It frees the function before it finalizes objects, so the destructor is too late.
  static void end(void* object);
  void let_go();  // of the function
  CaptureGroup& group(Napi::Env env) const;
  void settle(Napi::Env env);
  Napi::Value delivery(Napi::Env env, CaptureGroup::Delivery& delivery);
  Napi::Value frame_buffer(Napi::Env env, const CaptureGroup::Frame& frame);

  std::shared_ptr<CaptureGroup> group_;
  DirtyLogCleaner::Pace pace_;  // of its volumes
  Ready ready_;
  bool ready_open_ = false;
  std::optional<Napi::Promise::Deferred> waiting_;
  std::vector<Napi::Reference<Napi::ArrayBuffer>>
      pool_;  // one external ArrayBuffer per pool buffer, made at first use
};

}  // namespace afterimage::binding
