#include "binding/capture_object.h"

#include <fcntl.h>

#include <utility>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/device_object.h"
#include "binding/dirty_log_object.h"
#include "binding/values.h"

namespace afterimage::binding {
namespace {

/// A volume keeps its group alive: whoever holds the device may still write.
struct VolumeWithGroup {
  VolumeWithGroup(std::shared_ptr<CaptureGroup> owner, std::shared_ptr<BlockDevice> backing, uint16_t number,
                  std::shared_ptr<DirtyLog> log, std::shared_ptr<InFlightTable> in_flight,
                  const DirtyLogCleaner::Pace& pace)
      : group(std::move(owner)),
        device(std::move(backing), group.get(), number, std::move(log), std::move(in_flight), pace) {}
  std::shared_ptr<CaptureGroup> group;
  CapturedDevice device;
};

}  // namespace

void CaptureObject::define(Napi::Env env, Napi::Object exports) {
  const Napi::Function constructor =
      DefineClass(env, "CaptureGroup",
                  {
                      InstanceMethod<&CaptureObject::add_volume>("addVolume"),
                      InstanceMethod<&CaptureObject::begin_generation>("beginGeneration"),
                      InstanceMethod<&CaptureObject::resume_generation>("resumeGeneration"),
                      InstanceMethod<&CaptureObject::ring_descriptor>("ringDescriptor"),
                      InstanceMethod<&CaptureObject::close_stream>("closeStream"),
                      InstanceMethod<&CaptureObject::resume_clock>("resumeClock"),
                      InstanceMethod<&CaptureObject::abandon_stream>("abandonStream"),
                      InstanceMethod<&CaptureObject::raise_ceiling>("raiseCeiling"),
                      InstanceMethod<&CaptureObject::start_shipping>("startShipping"),
                      InstanceMethod<&CaptureObject::stop_shipping>("stopShipping"),
                      InstanceMethod<&CaptureObject::next>("next"),
                      InstanceMethod<&CaptureObject::release>("release"),
                      InstanceMethod<&CaptureObject::position>("position"),
                      InstanceMethod<&CaptureObject::stats>("stats"),
                      InstanceMethod<&CaptureObject::close>("close"),
                  });
  AddonData::of(env).capture_group = Napi::Persistent(constructor);
  exports.Set("createCaptureGroup", Napi::Function::New<create>(env));
  exports.Set("adoptCaptureGroup", Napi::Function::New<adopt>(env));
}

namespace {

CaptureGroup::Options options_of(const Napi::Object& object) {
  CaptureGroup::Options options;
  options.group = get_uuid(object, "group");
  options.member = get_uuid(object, "member");
  options.ring_bytes = get_u64(object, "ringBytes");
  options.linger_us = get_u32(object, "lingerUs");
  options.last_time_ns = get_u64(object, "lastTimeNs");
  options.era = get_u32(object, "era");
  const Napi::Value spool = object.Get("spool");
  if (!spool.IsNull()) {
    options.spool.directory = get_string(spool.As<Napi::Object>(), "directory");
    options.spool.bytes_max = get_u64(spool.As<Napi::Object>(), "bytesMax");
  }
  return options;
}

DirtyLogCleaner::Pace pace_of(const Napi::Object& options) {
  if (!options.Has("unmarkAfterMs")) return {};
  return DirtyLogCleaner::Pace::of(std::chrono::milliseconds(get_u32(options, "unmarkAfterMs")));
}

}  // namespace

Napi::Value CaptureObject::create(const Napi::CallbackInfo& info) {
  const auto options = info[0].As<Napi::Object>();
  auto group = CaptureGroup::create(options_of(options));
  return wrap(info.Env(), group, pace_of(options));
}

Napi::Value CaptureObject::adopt(const Napi::CallbackInfo& info) {
  const auto ring = static_cast<int>(to_u32(info[1], "ring"));
  const auto options = info[0].As<Napi::Object>();
  auto group = CaptureGroup::adopt(options_of(options), Fd(::fcntl(ring, F_DUPFD_CLOEXEC, 0)));
  return wrap(info.Env(), group, pace_of(options));
}

Napi::Value CaptureObject::wrap(Napi::Env env, Result<std::unique_ptr<CaptureGroup>>& group,
                                const DirtyLogCleaner::Pace& pace) {
  if (!group.ok()) throw_error(env, group.error());

  const Napi::Object instance = AddonData::of(env).capture_group.New({});
  CaptureObject* self = Unwrap(instance);
  self->group_ = std::move(*group);
  self->pace_ = pace;
  self->pool_.resize(kFramePoolCount);
  self->ready_ = Ready::New(env, "afterimage capture", 0, 1, self);
  self->ready_.Unref(env);
  self->ready_open_ = true;
  napi_add_env_cleanup_hook(env, end, self);  // after the function's own: hooks run last in, first out
  self->group_->set_on_ready([ready = self->ready_]() mutable { ready.NonBlockingCall(); });
  return instance;
}

CaptureObject::CaptureObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CaptureObject>(info) {}

CaptureObject::~CaptureObject() { let_go(); }

void CaptureObject::end(void* object) { static_cast<CaptureObject*>(object)->let_go(); }

void CaptureObject::let_go() {
  if (!std::exchange(ready_open_, false)) return;
  napi_remove_env_cleanup_hook(Env(), end, this);
  if (group_) group_->set_on_ready({});  // the pump does not call the function any more
  ready_.Abort();                        // nor does a call that is queued reach this object
}

CaptureGroup& CaptureObject::group(Napi::Env env) const {
  if (!group_) throw Napi::Error::New(env, "the capture group is closed");
  return *group_;
}

Napi::Value CaptureObject::add_volume(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  group(env);
  const uint32_t number = to_u32(info[0], "number");
  if (number > kVolumeNumberMax) throw Napi::RangeError::New(env, "volume number beyond its limit");
  auto in_flight = info[3].IsNull()
                       ? InFlightTable::create()
                       : InFlightTable::adopt(
                             Fd(::fcntl(static_cast<int>(to_u32(info[3], "inFlight")), F_DUPFD_CLOEXEC, 0)));
  if (!in_flight.ok()) throw_error(env, in_flight.error());
  auto volume = std::make_shared<VolumeWithGroup>(
      group_, DeviceObject::device_of(info[1]), static_cast<uint16_t>(number),
      DirtyLogObject::log_of(info[2]), std::shared_ptr<InFlightTable>(std::move(*in_flight)), pace_);
  return DeviceObject::create(env, std::shared_ptr<BlockDevice>(volume, &volume->device));
}

Napi::Value CaptureObject::begin_generation(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  CaptureGroup::Generation generation;
  generation.epoch = get_u64(object, "epoch");
  generation.generation = get_u64(object, "generation");
  generation.first_lsn = get_u64(object, "firstLsn");
  generation.lsn_ceiling = get_u64(object, "lsnCeiling");
  return check(info.Env(), group(info.Env()).begin_generation(generation));
}

Napi::Value CaptureObject::resume_generation(const Napi::CallbackInfo& info) {
  group(info.Env()).resume_generation(to_u64(info[0], "epoch"), to_u64(info[1], "lsnCeiling"));
  return info.Env().Undefined();
}

Napi::Value CaptureObject::ring_descriptor(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), group(info.Env()).ring_memfd());
}

Napi::Value CaptureObject::close_stream(const Napi::CallbackInfo& info) {
  group(info.Env()).close_stream("CLOSED");
  return info.Env().Undefined();
}

Napi::Value CaptureObject::resume_clock(const Napi::CallbackInfo& info) {
  group(info.Env()).resume_clock(to_u64(info[0], "lastTimeNs"), to_u32(info[1], "era"));
  return info.Env().Undefined();
}

Napi::Value CaptureObject::abandon_stream(const Napi::CallbackInfo& info) {
  group(info.Env()).abandon_stream();
  return info.Env().Undefined();
}

Napi::Value CaptureObject::raise_ceiling(const Napi::CallbackInfo& info) {
  group(info.Env()).raise_ceiling(to_u64(info[0], "lsn"));
  return info.Env().Undefined();
}

Napi::Value CaptureObject::start_shipping(const Napi::CallbackInfo& info) {
  return check(info.Env(),
               group(info.Env()).start_shipping(to_u64(info[0], "durableLsn"), to_u32(info[1], "link")));
}

Napi::Value CaptureObject::stop_shipping(const Napi::CallbackInfo& info) {
  group(info.Env()).stop_shipping();
  return info.Env().Undefined();
}

Napi::Value CaptureObject::next(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (waiting_) throw Napi::Error::New(env, "next() is already waiting");
  auto deferred = Napi::Promise::Deferred::New(env);
  if (!group_) {
    deferred.Resolve(env.Null());
    return deferred.Promise();
  }
  waiting_.emplace(deferred);
  ready_.Ref(env);  // a pending pull keeps the process alive, an idle group does not
  settle(env);
  return deferred.Promise();
}

void CaptureObject::settle(Napi::Env env) {
  if (!waiting_) return;
  auto ready = group_ ? group_->next() : std::nullopt;
  if (group_ && !ready) return;
  auto deferred = *waiting_;
  waiting_.reset();
  ready_.Unref(env);
  deferred.Resolve(group_ ? delivery(env, *ready) : env.Null());
}

void CaptureObject::ready(Napi::Env env, Napi::Function, CaptureObject* self, void*) {
  if (env == nullptr) return;  // the environment is going away
  const Napi::HandleScope scope(env);
  self->settle(env);
}

Napi::Value CaptureObject::frame_buffer(Napi::Env env, const CaptureGroup::Frame& frame) {
  auto& reference = pool_.at(frame.pool_index);
  if (reference.IsEmpty()) {
    using Keep = std::shared_ptr<void>;
    reference = Napi::Reference<Napi::ArrayBuffer>::New(
        Napi::ArrayBuffer::New(
            env, frame.bytes - kFrameHeadroomBytes, kFrameHeadroomBytes + kFrameBytesMax,
            [](Napi::BasicEnv, void*, Keep* keep) { delete keep; }, new Keep(group_->frame_pool())),
        1);
  }
  const auto from = env.Global().Get("Buffer").As<Napi::Object>().Get("from").As<Napi::Function>();
  return from.Call({reference.Value(), Napi::Number::New(env, 0),
                    Napi::Number::New(env, kFrameHeadroomBytes + frame.header.frame_bytes)});
}

Napi::Value CaptureObject::delivery(Napi::Env env, CaptureGroup::Delivery& delivery) {
  auto object = Napi::Object::New(env);
  if (const auto* end = std::get_if<CaptureGroup::StreamEnd>(&delivery)) {
    object.Set("kind", "end");
    object.Set("generation", big(env, end->generation));
    object.Set("lastLsn", big(env, end->last_lsn));
    object.Set("reason", end->reason);
    return object;
  }
  if (const auto* loss = std::get_if<CaptureGroup::StreamLoss>(&delivery)) {
    object.Set("kind", "loss");
    object.Set("code", loss->code);
    object.Set("message", loss->message);
    return object;
  }
  const auto& frame = std::get<CaptureGroup::Frame>(delivery);
  const FrameHeader& header = frame.header;
  object.Set("kind", "frame");
  object.Set("buffer", frame_buffer(env, frame));
  object.Set("headroom", Napi::Number::New(env, kFrameHeadroomBytes));
  object.Set("generation", big(env, header.generation));
  object.Set("firstLsn", big(env, header.first_lsn));
  object.Set("lastLsn", big(env, header.last_lsn));
  object.Set("firstTimeNs", big(env, header.first_time_ns));
  object.Set("lastTimeNs", big(env, header.last_time_ns));
  object.Set("records", Napi::Number::New(env, header.record_count));
  object.Set("rawBytes", Napi::Number::New(env, header.raw_bytes));
  object.Set("release", Napi::Function::New(env, [group = group_, index = frame.pool_index,
                                                  is_lent = true](const Napi::CallbackInfo& call) mutable {
               // A second one would give away the buffer of a later frame. The group asserts that, but a
               // defect in JavaScript must not end the process that serves production (R7).
               if (!std::exchange(is_lent, false))
                 throw Napi::Error::New(call.Env(), "the frame was released before");
               group->release_frame(index);
             }));
  return object;
}

Napi::Value CaptureObject::release(const Napi::CallbackInfo& info) {
  return check(info.Env(), group(info.Env()).release(to_u64(info[0], "durableLsn")));
}

Napi::Value CaptureObject::position(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CaptureGroup::Publication position = group(env).position();
  auto object = Napi::Object::New(env);
  object.Set("lsn", big(env, position.lsn));
  object.Set("timeNs", big(env, position.time_ns));
  return object;
}

Napi::Value CaptureObject::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CaptureGroup::Stats stats = group(env).stats();
  auto object = Napi::Object::New(env);
  object.Set("streaming", Napi::Boolean::New(env, stats.mode == CaptureGroup::Mode::kStreaming));
  object.Set("generation", big(env, stats.generation));
  object.Set("lsnCeiling", big(env, stats.lsn_ceiling));
  object.Set("capturedLsn", big(env, stats.captured_lsn));
  object.Set("capturedTimeNs", big(env, stats.captured_time_ns));
  object.Set("releasedLsn", big(env, stats.released_lsn));
  object.Set("oldestTimeNs", big(env, stats.oldest_time_ns));
  object.Set("ringUsedBytes", big(env, stats.ring_used_bytes));
  object.Set("ringBytes", big(env, stats.ring_bytes));
  object.Set("spoolUsedBytes", big(env, stats.spool_used_bytes));
  object.Set("spoolBytes", big(env, stats.spool_bytes));
  object.Set("spoolFault", stats.spool.fault == nullptr ? "" : stats.spool.fault);
  object.Set("spoolMessage", stats.spool.message);
  object.Set("spoolForeign", stats.spool.foreign);
  object.Set("endReason", stats.end_reason);
  object.Set("records", big(env, stats.records));
  object.Set("rawBytes", big(env, stats.raw_bytes));
  object.Set("untrackedRecords", big(env, stats.untracked_records));
  object.Set("era", Napi::Number::New(env, stats.era));
  return object;
}

Napi::Value CaptureObject::close(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (ready_open_) {
    group_->set_on_ready({});
    std::shared_ptr<CaptureGroup> closing = std::move(group_);
    group_.reset();
    settle(env);  // a pending next() ends with null
    let_go();
    pool_.clear();  // frames that are still being sent keep the pool's memory by themselves
    // Volumes and frames that JavaScript has not let go of share the group: it is ended here, and not with
    // the last of them, which would be a matter of garbage collection and on the main thread.
    return run_apart<Nothing>(
        env,
        [closing = std::move(closing)]() -> Outcome {
          closing->close();
          return Nothing{};
        },
        undefined);
  }
  auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Resolve(env.Undefined());
  return deferred.Promise();
}

}  // namespace afterimage::binding
