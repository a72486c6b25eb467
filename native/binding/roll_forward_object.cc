#include "binding/roll_forward_object.h"

#include <memory>
#include <utility>
#include <vector>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/values.h"
#include "device/roll_forward.h"

namespace afterimage::binding {
namespace {

using Shared = std::shared_ptr<RollForward>;

class RollForwardObject : public Napi::ObjectWrap<RollForwardObject> {
 public:
  static void define(Napi::Env env) {
    AddonData::of(env).roll_forward =
        Napi::Persistent(DefineClass(env, "RollForward",
                                     {InstanceMethod<&RollForwardObject::advance>("advance"),
                                      InstanceMethod<&RollForwardObject::sync>("sync"),
                                      InstanceMethod<&RollForwardObject::bad_offsets>("badOffsets"),
                                      InstanceMethod<&RollForwardObject::close>("close")}));
  }
  static Napi::Value create(Napi::Env env, Shared& roll) {
    const Napi::Object object = AddonData::of(env).roll_forward.New({});
    Unwrap(object)->roll_ = std::move(roll);
    return object;
  }
  explicit RollForwardObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RollForwardObject>(info) {}

 private:
  Shared roll(Napi::Env env) const {
    if (!roll_) throw Napi::Error::New(env, "the roll-forward is closed");
    return roll_;
  }
  Napi::Value advance(const Napi::CallbackInfo& info) {
    return run_async<RollForward::Progress>(
        info.Env(),
        [roll = roll(info.Env()), bytes_max = to_u64(info[0], "bytesMax")] {
          return roll->advance(bytes_max);
        },
        [](Napi::Env env, RollForward::Progress& progress) -> Napi::Value {
          auto object = Napi::Object::New(env);
          object.Set("bytesWritten", big(env, progress.bytes_written));
          object.Set("isDone", Napi::Boolean::New(env, progress.is_done));
          return object;
        });
  }
  Napi::Value sync(const Napi::CallbackInfo& info) {
    return run_async<Nothing>(
        info.Env(), [roll = roll(info.Env())] { return roll->sync(); }, undefined);
  }
  Napi::Value bad_offsets(const Napi::CallbackInfo& info) {
    const std::vector<uint64_t>& offsets = roll(info.Env())->bad_offsets();
    auto array = Napi::Array::New(info.Env(), offsets.size());
    for (uint32_t i = 0; i < offsets.size(); ++i) array.Set(i, big(info.Env(), offsets[i]));
    return array;
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    return run_async<Nothing>(
        info.Env(),
        [roll = std::move(roll_)]() mutable -> Outcome {
          roll.reset();
          return Nothing{};
        },
        undefined);
  }

  Shared roll_;
};

Napi::Value open_roll_forward(const Napi::CallbackInfo& info) {
  return run_async<Shared>(
      info.Env(),
      [source = to_point_source(info[0])]() -> Result<Shared> {
        auto roll = RollForward::open(source);
        if (!roll.ok()) return roll.error();
        return Shared(std::move(*roll));
      },
      RollForwardObject::create);
}

}  // namespace

void define_roll_forward(Napi::Env env, Napi::Object exports) {
  RollForwardObject::define(env);
  exports.Set("openRollForward", Napi::Function::New<open_roll_forward>(env));
}

}  // namespace afterimage::binding
