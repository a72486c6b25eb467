#include "binding/base_object.h"

#include <memory>

#include "binding/async.h"
#include "binding/device_object.h"
#include "binding/values.h"
#include "device/base_reader.h"
#include "device/base_writer.h"
#include "device/point_in_time_device.h"

namespace afterimage::binding {
namespace {

using SharedDevice = std::shared_ptr<BlockDevice>;

Napi::Array from_offsets(Napi::Env env, const std::vector<uint64_t>& offsets) {
  auto array = Napi::Array::New(env, offsets.size());
  for (uint32_t i = 0; i < offsets.size(); ++i) array.Set(i, big(env, offsets[i]));
  return array;
}

Napi::Value open_base(const Napi::CallbackInfo& info) {
  return run_async<SharedDevice>(
      info.Env(),
      [path = to_string(info[0], "path")]() -> Result<SharedDevice> {
        auto writer = BaseWriter::open(path, FileDevice::Cache::kDirect);
        if (!writer.ok()) return writer.error();
        return SharedDevice(std::move(*writer));
      },
      [](Napi::Env env, SharedDevice& device) -> Napi::Value {
        return DeviceObject::create(env, std::move(device));
      });
}

Napi::Value complete_base(const Napi::CallbackInfo& info) {
  return run_async<Nothing>(
      info.Env(),
      [path = to_string(info[0], "path")]() -> Outcome {
        auto writer = BaseWriter::open(path);
        if (!writer.ok()) return writer.error();
        return from_errno((*writer)->complete(), "make the checksums of a base");
      },
      undefined);
}

Napi::Value sum_base(const Napi::CallbackInfo& info) {
  return run_async<uint64_t>(
      info.Env(),
      [path = to_string(info[0], "path"), offset = to_u64(info[1], "offset"),
       length = to_u64(info[2], "length")]() -> Result<uint64_t> {
        auto writer = BaseWriter::open(path);
        if (!writer.ok()) return writer.error();
        uint64_t blocks = 0;
        if (const Errno error = (*writer)->sum(offset, length, &blocks))
          return system_error("IO_ERROR", "make the checksums of a base", error);
        return blocks;
      },
      [](Napi::Env env, uint64_t blocks) -> Napi::Value { return big(env, blocks); });
}

Napi::Value lose_base(const Napi::CallbackInfo& info) {
  return run_async<Nothing>(
      info.Env(),
      [path = to_string(info[0], "path"), offset = to_u64(info[1], "offset"),
       size = to_u64(info[2], "size")] { return BaseWriter::lose(path, offset, size); },
      undefined);
}

struct BaseScrub {
  BaseReader::Scrubbed scrubbed;
  std::vector<uint64_t> bad;
  bool has_sums = false;
};

Napi::Value scrub_base(const Napi::CallbackInfo& info) {
  return run_async<BaseScrub>(
      info.Env(),
      [path = to_string(info[0], "path"), bytes = to_u64(info[1], "volumeBytes"),
       offset = to_u64(info[2], "offset"), length = to_u64(info[3], "length")]() -> Result<BaseScrub> {
        auto reader = BaseReader::open(path, bytes);
        if (!reader.ok()) return reader.error();
        BaseScrub scrub;
        scrub.scrubbed = (*reader)->scrub(offset, length);
        scrub.bad = (*reader)->bad_offsets();
        scrub.has_sums = (*reader)->has_sums();
        return scrub;
      },
      [](Napi::Env env, BaseScrub& scrub) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("bytes", big(env, scrub.scrubbed.bytes));
        object.Set("unsummed", big(env, scrub.scrubbed.unsummed));
        object.Set("isEnd", Napi::Boolean::New(env, scrub.scrubbed.is_end));
        object.Set("hasSums", Napi::Boolean::New(env, scrub.has_sums));
        object.Set("badOffsets", from_offsets(env, scrub.bad));
        return object;
      });
}

Napi::Value bad_base_offsets(const Napi::CallbackInfo& info) {
  const auto point = std::dynamic_pointer_cast<PointInTimeDevice>(DeviceObject::device_of(info[0]));
  if (!point) throw Napi::TypeError::New(info.Env(), "not a point");
  return from_offsets(info.Env(), point->bad_base_offsets());
}

}  // namespace

void define_base(Napi::Env env, Napi::Object exports) {
  exports.Set("openBase", Napi::Function::New<open_base>(env));
  exports.Set("completeBase", Napi::Function::New<complete_base>(env));
  exports.Set("sumBase", Napi::Function::New<sum_base>(env));
  exports.Set("loseBase", Napi::Function::New<lose_base>(env));
  exports.Set("scrubBase", Napi::Function::New<scrub_base>(env));
  exports.Set("badBaseOffsets", Napi::Function::New<bad_base_offsets>(env));
}

}  // namespace afterimage::binding
