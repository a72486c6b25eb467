// DirtyLog of native/index.ts.
//
// Threads: main thread only; what waits for the disk goes to worker threads, each holding the log by its
// shared pointer.
#pragma once

#include <napi.h>

#include <memory>

#include "capture/dirty_log.h"

namespace afterimage::binding {

class DirtyLogObject : public Napi::ObjectWrap<DirtyLogObject> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  /// The log of a JavaScript DirtyLog; null for null. Throws TypeError for anything else.
  static std::shared_ptr<DirtyLog> log_of(const Napi::Value& value);

  explicit DirtyLogObject(const Napi::CallbackInfo& info);

 private:
  static Napi::Value open(const Napi::CallbackInfo& info);
  Napi::Value state(const Napi::CallbackInfo& info);
  Napi::Value extents(const Napi::CallbackInfo& info);
  Napi::Value is_marked(const Napi::CallbackInfo& info);
  Napi::Value set_synced(const Napi::CallbackInfo& info);
  Napi::Value mark_all(const Napi::CallbackInfo& info);
  Napi::Value end(const Napi::CallbackInfo& info);

  std::shared_ptr<DirtyLog> log_;  // gone with the object, or with the last device that marks in it
};

}  // namespace afterimage::binding
