#include "binding/layouts.h"

#include "capture/capture_ring.h"
#include "capture/in_flight_table.h"
#include "frontend/request_slots.h"

namespace afterimage::binding {
namespace {

Napi::Value layouts(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto all = Napi::Object::New(env);
  const auto set = [&](const char* name, uint32_t oldest, uint32_t written) {
    auto range = Napi::Object::New(env);
    range.Set("oldest", Napi::Number::New(env, oldest));
    range.Set("written", Napi::Number::New(env, written));
    all.Set(name, range);
  };
  set("ring", kRingLayoutVersion, kRingLayoutVersion);
  set("inFlight", kInFlightLayoutVersionMin, kInFlightLayoutVersion);
  set("slots", kSlotLayoutVersion, kSlotLayoutVersion);
  return all;
}

}  // namespace

void define_layouts(Napi::Env env, Napi::Object exports) {
  exports.Set("layouts", Napi::Function::New<layouts>(env));
}

}  // namespace afterimage::binding
