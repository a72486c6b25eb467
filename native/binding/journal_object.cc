#include "binding/journal_object.h"

#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/device_object.h"
#include "binding/roll_forward_object.h"
#include "binding/values.h"
#include "device/point_in_time_device.h"
#include "journal/journal_writer.h"
#include "journal/run.h"
#include "journal/segment.h"

namespace afterimage::binding {
namespace {

Napi::Object from_segment(Napi::Env env, const SegmentInfo& info) {
  auto object = Napi::Object::New(env);
  object.Set("path", info.path);
  object.Set("generation", big(env, info.generation));
  object.Set("firstLsn", big(env, info.first_lsn));
  object.Set("lastLsn", big(env, info.last_lsn));
  object.Set("firstTimeNs", big(env, info.first_time_ns));
  object.Set("lastTimeNs", big(env, info.last_time_ns));
  object.Set("firstEra", Napi::Number::New(env, info.first_era));
  object.Set("lastEra", Napi::Number::New(env, info.last_era));
  object.Set("frames", Napi::Number::New(env, info.frames));
  object.Set("records", big(env, info.records));
  object.Set("rawBytes", big(env, info.raw_bytes));
  object.Set("bytes", big(env, info.bytes));
  object.Set("link", Napi::Number::New(env, info.link));
  object.Set("sealed", Napi::Boolean::New(env, info.sealed));
  return object;
}

std::vector<SegmentVolume> to_volumes(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<SegmentVolume> volumes;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto item = array.Get(i).As<Napi::Object>();
    const uint32_t number = get_u32(item, "number");
    if (number > kVolumeNumberMax) throw Napi::RangeError::New(value.Env(), "volume number beyond its limit");
    volumes.push_back({static_cast<uint16_t>(number), 0, get_u32(item, "blockSize"), get_uuid(item, "uuid"),
                       get_u64(item, "size")});
  }
  return volumes;
}

Napi::Value from_uuid(Napi::Env env, const Uuid& uuid) {
  return Napi::Buffer<uint8_t>::Copy(env, uuid.data(), uuid.size());
}

class WriterObject : public Napi::ObjectWrap<WriterObject> {
 public:
  static void define(Napi::Env env) {
    AddonData::of(env).journal_writer = Napi::Persistent(DefineClass(
        env, "JournalWriter",
        {InstanceMethod<&WriterObject::append>("append"), InstanceMethod<&WriterObject::resume>("resume"),
         InstanceMethod<&WriterObject::begin_generation>("beginGeneration"),
         InstanceMethod<&WriterObject::position>("position"),
         InstanceMethod<&WriterObject::close>("close")}));
  }
  static Napi::Value create(Napi::Env env, std::shared_ptr<JournalWriter>& writer) {
    const Napi::Object object = AddonData::of(env).journal_writer.New({});
    WriterObject* self = Unwrap(object);
    self->writer_ = std::move(writer);
    self->done_ = Done::New(env, "afterimage journal", 0, 1, self);
    self->done_.Unref(env);
    self->open_ = true;
    napi_add_env_cleanup_hook(env, end, self);  // after the function's own: hooks run last in, first out
    return object;
  }
  explicit WriterObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<WriterObject>(info) {}
  ~WriterObject() override {
    if (open_) napi_remove_env_cleanup_hook(Env(), end, this);
    end(this);
  }

 private:
  /// The environment ends, or nobody holds the object any more. The environment frees the function before it
  /// finalizes objects, so the destructor is too late to let go of it.
  static void end(void* object) {
    auto* const self = static_cast<WriterObject*>(object);
    self->writer_.reset();  // completes what was queued, before the way home is closed
    if (std::exchange(self->open_, false)) self->done_.Abort();
  }
  struct Pending {
    explicit Pending(Napi::Env env) : deferred(env) {}
    Napi::Promise::Deferred deferred;
    Napi::ObjectReference frame;   // empty for begin_generation
    Napi::ObjectReference writer;  // the object lives as long as something is pending
    std::optional<Result<JournalWriter::Appended>> result;
  };
  static void settle(Napi::Env env, Napi::Function, WriterObject* self, Pending* pending) {
    if (env == nullptr) return;  // the environment is going away, and its handles with it
    const Napi::HandleScope scope(env);
    const std::unique_ptr<Pending> owned(pending);
    if (--self->pending_ == 0) self->done_.Unref(env);
    if (!pending->result->ok()) {
      pending->deferred.Reject(to_js_error(env, pending->result->error()).Value());
      return;
    }
    const JournalWriter::Appended& appended = **pending->result;
    auto changed = Napi::Array::New(env, appended.changed.size());
    for (uint32_t i = 0; i < appended.changed.size(); ++i)
      changed.Set(i, from_segment(env, appended.changed[i]));
    auto object = Napi::Object::New(env);
    object.Set("durableLsn", big(env, appended.durable_lsn));
    object.Set("changed", changed);
    pending->deferred.Resolve(object);
  }
  using Done = Napi::TypedThreadSafeFunction<WriterObject, Pending, settle>;

  JournalWriter& writer(Napi::Env env) const {
    if (!writer_) throw Napi::Error::New(env, "the journal is closed");
    return *writer_;
  }
  /// A completion that carries `pending` home to the main thread.
  JournalWriter::Completion completion(Napi::Env env, Pending* pending) {
    pending->writer = Napi::Persistent(Value());
    if (pending_++ == 0) done_.Ref(env);
    return [done = done_, pending](Result<JournalWriter::Appended> result) mutable {
      pending->result.emplace(std::move(result));
      done.NonBlockingCall(pending);
    };
  }

  Napi::Value append(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    JournalWriter& journal = writer(env);
    const auto frame = to_buffer(info[0], "frame");
    // The writer asserts it: on its own thread, where a defect in JavaScript would end the receiver.
    if (reinterpret_cast<uintptr_t>(frame.Data()) % alignof(FrameHeader) != 0)
      throw Napi::TypeError::New(env, "frame must begin at a multiple of 8 bytes");
    auto* pending = new Pending(env);
    const Napi::Promise promise = pending->deferred.Promise();
    pending->frame = Napi::Persistent(frame.As<Napi::Object>());
    journal.append(frame.Data(), frame.Length(), completion(env, pending));
    return promise;
  }
  Napi::Value resume(const Napi::CallbackInfo& info) {
    writer(info.Env()).resume(to_u64(info[0], "epoch"));
    return info.Env().Undefined();
  }
  Napi::Value begin_generation(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    JournalWriter& journal = writer(env);
    const uint64_t epoch = to_u64(info[0], "epoch");
    const uint64_t generation = to_u64(info[1], "generation");
    const uint64_t first_lsn = to_u64(info[2], "firstLsn");
    auto volumes = to_volumes(info[3]);
    auto* pending = new Pending(env);
    const Napi::Promise promise = pending->deferred.Promise();
    journal.begin_generation(epoch, generation, first_lsn, std::move(volumes), completion(env, pending));
    return promise;
  }
  Napi::Value position(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const JournalWriter::Position position = writer(env).position();
    auto object = Napi::Object::New(env);
    object.Set("epoch", big(env, position.epoch));
    object.Set("generation", big(env, position.generation));
    object.Set("lastLsn", big(env, position.last_lsn));
    object.Set("link", Napi::Number::New(env, position.link));
    return object;
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    return run_async<Nothing>(
        info.Env(),
        [writer = std::move(writer_)]() mutable -> Outcome {
          writer.reset();
          return Nothing{};
        },
        [this](Napi::Env env, Nothing&) -> Napi::Value {
          if (std::exchange(open_, false)) {
            napi_remove_env_cleanup_hook(env, end, this);
            done_.Release();  // what the writer completed still comes home
          }
          return env.Undefined();
        },
        {Value()});
  }

  std::shared_ptr<JournalWriter> writer_;
  Done done_;
  bool open_ = false;
  uint32_t pending_ = 0;
};

Napi::Value open_journal(const Napi::CallbackInfo& info) {
  using Writer = std::shared_ptr<JournalWriter>;
  const auto object = info[0].As<Napi::Object>();
  JournalWriter::Options options;
  options.directory = get_string(object, "directory");
  options.group = get_uuid(object, "group");
  options.member = get_uuid(object, "member");
  options.segment_bytes = get_u64(object, "segmentBytes");
  options.headroom_bytes = get_u64(object, "headroomBytes");
  const auto at = object.Get("position").As<Napi::Object>();
  JournalWriter::Position position;
  position.epoch = get_u64(at, "epoch");
  position.generation = get_u64(at, "generation");
  position.last_lsn = get_u64(at, "lastLsn");
  position.link = get_u32(at, "link");
  std::optional<SegmentInfo> tail;
  if (const Napi::Value value = object.Get("tail"); !value.IsNull())
    tail = to_segment(value.As<Napi::Object>());
  return run_async<Writer>(
      info.Env(),
      [options, position, tail]() -> Result<Writer> {
        auto writer = JournalWriter::open(options, position, tail ? &*tail : nullptr);
        if (!writer.ok()) return writer.error();
        return Writer(std::move(*writer));
      },
      WriterObject::create);
}

Napi::Value scan(const Napi::CallbackInfo& info) {
  return run_async<SegmentScan>(
      info.Env(),
      [path = to_string(info[0], "path"), check = info[1].ToBoolean().Value()] {
        return scan_segment(path, check);
      },
      [](Napi::Env env, SegmentScan& scan) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("info", from_segment(env, scan.info));
        object.Set("group", from_uuid(env, scan.group));
        object.Set("member", from_uuid(env, scan.member));
        object.Set("firstLink", Napi::Number::New(env, scan.first_link));
        object.Set("fileBytes", big(env, scan.file_bytes));
        object.Set("stopReason", scan.stop_reason);
        object.Set("stopOffset", big(env, scan.stop_offset));
        return object;
      });
}

Napi::Value make_run(const Napi::CallbackInfo& info) {
  return run_async<Nothing>(
      info.Env(),
      [segment = to_segment(info[0].As<Napi::Object>()), path = to_string(info[1], "runPath")] {
        return build_run(segment, path);
      },
      undefined);
}

Napi::Value check_run(const Napi::CallbackInfo& info) {
  return run_async<bool>(
      info.Env(),
      [segment = to_segment(info[0].As<Napi::Object>()), path = to_string(info[1], "runPath")] {
        return is_run_of(segment, path);
      },
      [](Napi::Env env, bool& is_its) -> Napi::Value { return Napi::Boolean::New(env, is_its); });
}

Napi::Value find_run_fault(const Napi::CallbackInfo& info) {
  return run_async<std::string>(
      info.Env(),
      [segment = to_segment(info[0].As<Napi::Object>()), path = to_string(info[1], "runPath")] {
        return run_fault(segment, path);
      },
      [](Napi::Env env, std::string& fault) -> Napi::Value { return Napi::String::New(env, fault); });
}

Napi::Value bigint_value(Napi::Env env, uint64_t& value) { return big(env, value); }

Napi::Value find_lsn(const Napi::CallbackInfo& info) {
  return run_async<uint64_t>(
      info.Env(),
      [segment = to_segment(info[0].As<Napi::Object>()), time = to_u64(info[1], "timeNs")] {
        return lsn_at_time(segment, time);
      },
      bigint_value);
}

Napi::Value find_time(const Napi::CallbackInfo& info) {
  return run_async<uint64_t>(
      info.Env(),
      [segment = to_segment(info[0].As<Napi::Object>()), lsn = to_u64(info[1], "lsn")] {
        return time_at_lsn(segment, lsn);
      },
      bigint_value);
}

Napi::Value open_point(const Napi::CallbackInfo& info) {
  using Device = std::shared_ptr<BlockDevice>;
  return run_async<Device>(
      info.Env(),
      [source = to_point_source(info[0])]() -> Result<Device> {
        auto device = PointInTimeDevice::open(source);
        if (!device.ok()) return device.error();
        return Device(std::move(*device));
      },
      [](Napi::Env env, Device& device) -> Napi::Value {
        return DeviceObject::create(env, std::move(device));
      });
}

}  // namespace

SegmentInfo to_segment(const Napi::Object& object) {
  SegmentInfo info;
  info.path = get_string(object, "path");
  info.generation = get_u64(object, "generation");
  info.first_lsn = get_u64(object, "firstLsn");
  info.last_lsn = get_u64(object, "lastLsn");
  info.first_time_ns = get_u64(object, "firstTimeNs");
  info.last_time_ns = get_u64(object, "lastTimeNs");
  info.first_era = get_u32(object, "firstEra");
  info.last_era = get_u32(object, "lastEra");
  info.frames = get_u32(object, "frames");
  info.records = get_u64(object, "records");
  info.raw_bytes = get_u64(object, "rawBytes");
  info.bytes = get_u64(object, "bytes");
  info.link = get_u32(object, "link");
  info.sealed = get_bool(object, "sealed");
  return info;
}

std::vector<PointSource::Tile> to_tiles(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<PointSource::Tile> tiles;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto tile = array.Get(i).As<Napi::Object>();
    const Napi::Value run = tile.Get("run");
    tiles.push_back({.segment = to_segment(tile.Get("segment").As<Napi::Object>()),
                     .run_path = run.IsNull() ? "" : to_string(run, "run"),
                     .is_after_hole = get_bool(tile, "isAfterHole")});
  }
  return tiles;
}

PointSource to_point_source(const Napi::Value& value) {
  const auto object = value.As<Napi::Object>();
  PointSource source;
  source.base_path = get_string(object, "basePath");
  source.size = get_u64(object, "size");
  source.block_size = get_u32(object, "blockSize");
  const uint32_t volume = get_u32(object, "volume");
  if (volume > kVolumeNumberMax) throw Napi::RangeError::New(value.Env(), "volume number beyond its limit");
  source.volume = static_cast<uint16_t>(volume);
  source.lsn = get_u64(object, "lsn");
  source.tiles = to_tiles(object.Get("tiles"));
  return source;
}

void define_journal(Napi::Env env, Napi::Object exports) {
  WriterObject::define(env);
  exports.Set("openJournal", Napi::Function::New<open_journal>(env));
  exports.Set("scanSegment", Napi::Function::New<scan>(env));
  exports.Set("buildRun", Napi::Function::New<make_run>(env));
  exports.Set("isRunOf", Napi::Function::New<check_run>(env));
  exports.Set("runFault", Napi::Function::New<find_run_fault>(env));
  exports.Set("lsnAtTime", Napi::Function::New<find_lsn>(env));
  exports.Set("timeAtLsn", Napi::Function::New<find_time>(env));
  exports.Set("openPoint", Napi::Function::New<open_point>(env));
}

}  // namespace afterimage::binding
