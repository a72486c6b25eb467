// BlockDevice and CapturedVolume of native/index.ts.
//
// Threads: main thread only; I/O goes to worker threads, each holding the device by its shared pointer.
#pragma once

#include <napi.h>

#include <memory>

#include "device/captured_device.h"

namespace afterimage::binding {

class DeviceObject : public Napi::ObjectWrap<DeviceObject> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object create(Napi::Env env, std::shared_ptr<BlockDevice> device);
  /// The device of a JavaScript BlockDevice. Throws TypeError if `value` is not one, or is closed.
  static std::shared_ptr<BlockDevice> device_of(const Napi::Value& value);

  explicit DeviceObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value block_size(const Napi::CallbackInfo& info);
  Napi::Value read_only(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value read_piece(const Napi::CallbackInfo& info);
  Napi::Value hash_blocks(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value write_piece(const Napi::CallbackInfo& info);
  Napi::Value zero(const Napi::CallbackInfo& info);
  Napi::Value flush(const Napi::CallbackInfo& info);
  Napi::Value forget_cached(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value republish(const Napi::CallbackInfo& info);
  Napi::Value read_settled(const Napi::CallbackInfo& info);
  Napi::Value fence(const Napi::CallbackInfo& info);
  Napi::Value remeasure(const Napi::CallbackInfo& info);
  Napi::Value prepare_growth(const Napi::CallbackInfo& info);
  Napi::Value grow(const Napi::CallbackInfo& info);
  Napi::Value settle(const Napi::CallbackInfo& info);
  Napi::Value in_flight(const Napi::CallbackInfo& info);
  Napi::Value clean_up(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value activity(const Napi::CallbackInfo& info);

  std::shared_ptr<BlockDevice> open_device(Napi::Env env) const;
  std::shared_ptr<CapturedDevice> captured(Napi::Env env) const;

  std::shared_ptr<BlockDevice> device_;
  // Geometry outlives close(): status still names it.
  uint64_t size_ = 0;
  uint32_t block_size_ = 0;
  bool read_only_ = false;
};

}  // namespace afterimage::binding
