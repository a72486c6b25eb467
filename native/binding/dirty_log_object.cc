#include "binding/dirty_log_object.h"

#include <utility>
#include <vector>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/values.h"

namespace afterimage::binding {

void DirtyLogObject::define(Napi::Env env, Napi::Object exports) {
  const Napi::Function constructor = DefineClass(env, "DirtyLog",
                                                 {
                                                     InstanceMethod<&DirtyLogObject::state>("state"),
                                                     InstanceMethod<&DirtyLogObject::extents>("extents"),
                                                     InstanceMethod<&DirtyLogObject::is_marked>("isMarked"),
                                                     InstanceMethod<&DirtyLogObject::set_synced>("setSynced"),
                                                     InstanceMethod<&DirtyLogObject::mark_all>("markAll"),
                                                     InstanceMethod<&DirtyLogObject::end>("end"),
                                                 });
  AddonData::of(env).dirty_log = Napi::Persistent(constructor);
  exports.Set("openDirtyLog", Napi::Function::New<open>(env));
}

Napi::Value DirtyLogObject::open(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  DirtyLog::Options options;
  options.path = get_string(object, "path");
  options.volume = get_uuid(object, "volume");
  options.volume_bytes = get_u64(object, "volumeBytes");
  options.opening_patience = std::chrono::milliseconds(get_u32(object, "openingPatienceMs"));
  if (options.volume_bytes == 0 || options.volume_bytes > kDirtyVolumeBytesMax)
    throw Napi::RangeError::New(info.Env(), "volumeBytes beyond its limit");
  using Log = std::shared_ptr<DirtyLog>;
  return run_apart<Log>(
      info.Env(), [options]() -> Result<Log> { return DirtyLog::open(options); },
      [](Napi::Env env, Log& log) -> Napi::Value {
        const Napi::Object instance = AddonData::of(env).dirty_log.New({});
        Unwrap(instance)->log_ = std::move(log);
        return instance;
      });
}

std::shared_ptr<DirtyLog> DirtyLogObject::log_of(const Napi::Value& value) {
  if (value.IsNull()) return nullptr;
  const Napi::Env env = value.Env();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(AddonData::of(env).dirty_log.Value()))
    throw Napi::TypeError::New(env, "not a DirtyLog of this addon");
  return Unwrap(value.As<Napi::Object>())->log_;
}

DirtyLogObject::DirtyLogObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DirtyLogObject>(info) {}

Napi::Value DirtyLogObject::state(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const DirtyLog::State state = log_->state();
  auto object = Napi::Object::New(env);
  object.Set("id", big(env, state.id));
  object.Set("sequence", big(env, state.sequence));
  object.Set("basisGeneration", big(env, state.basis_generation));
  object.Set("basisLsn", big(env, state.basis_lsn));
  object.Set("extents", big(env, state.extents));
  object.Set("marked", big(env, state.marked));
  object.Set("flushFailed", Napi::Boolean::New(env, state.flush_failed));
  object.Set("distrust", state.distrust);
  object.Set("fault", state.fault);
  object.Set("isStale", Napi::Boolean::New(env, state.is_stale));
  return object;
}

Napi::Value DirtyLogObject::extents(const Napi::CallbackInfo& info) {
  using Bitmap = std::vector<std::byte>;
  return run_apart<Bitmap>(
      info.Env(), [log = log_]() -> Result<Bitmap> { return log->bitmap(); },
      [](Napi::Env env, Bitmap& bitmap) -> Napi::Value {
        return Napi::Buffer<std::byte>::Copy(env, bitmap.data(), bitmap.size());
      });
}

Napi::Value DirtyLogObject::is_marked(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint64_t offset = to_u64(info[0], "offset");
  if (offset / kDirtyExtentBytes >= log_->state().extents)
    throw Napi::RangeError::New(env, "offset beyond the volume");
  return Napi::Boolean::New(env, log_->is_marked(offset));
}

Napi::Value DirtyLogObject::set_synced(const Napi::CallbackInfo& info) {
  log_->set_synced(to_u64(info[0], "generation"));
  return info.Env().Undefined();
}

Napi::Value DirtyLogObject::mark_all(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [log = log_]() -> Outcome {
        log->mark_all();
        return Nothing{};
      },
      undefined);
}

Napi::Value DirtyLogObject::end(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [log = log_]() -> Outcome {
        log->end();
        return Nothing{};
      },
      undefined);
}

}  // namespace afterimage::binding
