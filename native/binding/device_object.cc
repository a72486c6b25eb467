#include "binding/device_object.h"

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/block_hashes.h"
#include "binding/values.h"
#include "device/copy.h"
#include "device/file_device.h"
#include "device/overlay_device.h"
#include "device/sync_piece.h"

namespace afterimage::binding {
namespace {

using SharedDevice = std::shared_ptr<BlockDevice>;

Napi::Value device_value(Napi::Env env, SharedDevice& device) {
  return DeviceObject::create(env, std::move(device));
}

/// (options), or (options, size) for one that was served before.
Napi::Value open_file_device(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  const std::string path = get_string(object, "path");
  FileDevice::Options options;
  options.cache =
      get_string(object, "cache") == "direct" ? FileDevice::Cache::kDirect : FileDevice::Cache::kBuffered;
  options.read_only = get_bool(object, "readOnly");
  options.exclusive = get_bool(object, "exclusive");
  if (!info[1].IsUndefined()) options.size = to_u64(info[1], "size");
  if (!info[2].IsUndefined()) options.inode = to_u64(info[2], "inode");
  return run_apart<SharedDevice>(
      info.Env(),
      [path, options]() -> Result<SharedDevice> {
        auto device = FileDevice::open(path, options);
        if (!device.ok()) return device.error();
        return SharedDevice(std::move(*device));
      },
      device_value);
}

Napi::Value open_overlay(const Napi::CallbackInfo& info) {
  const SharedDevice lower = DeviceObject::device_of(info[0]);
  const std::string directory = to_string(info[1], "scratchDirectory");
  return run_async<SharedDevice>(
      info.Env(),
      [lower, directory]() -> Result<SharedDevice> {
        auto overlay = OverlayDevice::create(lower, directory);
        if (!overlay.ok()) return overlay.error();
        return SharedDevice(std::move(*overlay));
      },
      device_value);
}

Napi::Value copy_between(const Napi::CallbackInfo& info) {
  const SharedDevice source = DeviceObject::device_of(info[0]);
  const SharedDevice target = DeviceObject::device_of(info[1]);
  const uint64_t offset = to_u64(info[2], "offset");
  const uint32_t length = to_u32(info[3], "length");
  const bool skip_zero = info[4].ToBoolean().Value();
  return run_async<uint64_t>(
      info.Env(), [=] { return copy_range(*source, *target, offset, length, skip_zero); },
      [](Napi::Env env, uint64_t& written) -> Napi::Value {
        auto result = Napi::Object::New(env);
        result.Set("bytesWritten", big(env, written));
        return result;
      });
}

}  // namespace

void DeviceObject::define(Napi::Env env, Napi::Object exports) {
  const Napi::Function constructor =
      DefineClass(env, "BlockDevice",
                  {
                      InstanceAccessor<&DeviceObject::size>("size"),
                      InstanceAccessor<&DeviceObject::block_size>("blockSize"),
                      InstanceAccessor<&DeviceObject::read_only>("readOnly"),
                      InstanceMethod<&DeviceObject::read>("read"),
                      InstanceMethod<&DeviceObject::read_piece>("readPiece"),
                      InstanceMethod<&DeviceObject::hash_blocks>("hashBlocks"),
                      InstanceMethod<&DeviceObject::write>("write"),
                      InstanceMethod<&DeviceObject::write_piece>("writePiece"),
                      InstanceMethod<&DeviceObject::zero>("zero"),
                      InstanceMethod<&DeviceObject::flush>("flush"),
                      InstanceMethod<&DeviceObject::forget_cached>("forgetCached"),
                      InstanceMethod<&DeviceObject::close>("close"),
                      InstanceMethod<&DeviceObject::republish>("republish"),
                      InstanceMethod<&DeviceObject::read_settled>("readSettled"),
                      InstanceMethod<&DeviceObject::fence>("fence"),
                      InstanceMethod<&DeviceObject::remeasure>("remeasure"),
                      InstanceMethod<&DeviceObject::prepare_growth>("prepareGrowth"),
                      InstanceMethod<&DeviceObject::grow>("grow"),
                      InstanceMethod<&DeviceObject::settle>("settleInFlight"),
                      InstanceMethod<&DeviceObject::in_flight>("inFlightDescriptor"),
                      InstanceMethod<&DeviceObject::clean_up>("cleanUp"),
                      InstanceMethod<&DeviceObject::counters>("counters"),
                      InstanceMethod<&DeviceObject::activity>("activity"),
                  });
  AddonData::of(env).device = Napi::Persistent(constructor);
  exports.Set("openFileDevice", Napi::Function::New<open_file_device>(env));
  exports.Set("reopenFileDevice", Napi::Function::New<open_file_device>(env));
  exports.Set("openOverlay", Napi::Function::New<open_overlay>(env));
  exports.Set("copyRange", Napi::Function::New<copy_between>(env));
}

Napi::Object DeviceObject::create(Napi::Env env, SharedDevice device) {
  const Napi::Object object = AddonData::of(env).device.New({});
  DeviceObject* self = Unwrap(object);
  self->size_ = device->size();
  self->block_size_ = device->block_size();
  self->read_only_ = device->read_only();
  self->device_ = std::move(device);
  return object;
}

SharedDevice DeviceObject::device_of(const Napi::Value& value) {
  const Napi::Env env = value.Env();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(AddonData::of(env).device.Value()))
    throw Napi::TypeError::New(env, "not a BlockDevice of this addon");
  return Unwrap(value.As<Napi::Object>())->open_device(env);
}

DeviceObject::DeviceObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceObject>(info) {}

SharedDevice DeviceObject::open_device(Napi::Env env) const {
  if (!device_) throw Napi::Error::New(env, "the device is closed");
  return device_;
}

std::shared_ptr<CapturedDevice> DeviceObject::captured(Napi::Env env) const {
  auto device = std::dynamic_pointer_cast<CapturedDevice>(open_device(env));
  if (!device) throw Napi::TypeError::New(env, "not a captured volume");
  return device;
}

Napi::Value DeviceObject::size(const Napi::CallbackInfo& info) { return big(info.Env(), size_); }
Napi::Value DeviceObject::block_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), block_size_);
}
Napi::Value DeviceObject::read_only(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), read_only_);
}

Napi::Value DeviceObject::read(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const auto buffer = to_buffer(info[1], "into");
  return run_apart<Nothing>(
      info.Env(),
      [device = open_device(info.Env()), offset, data = buffer.Data(), length = buffer.Length()] {
        return from_errno(device->read(offset, length, data), "read");
      },
      undefined, {buffer});
}

Napi::Value DeviceObject::read_piece(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const auto buffer = to_buffer(info[1], "into");
  return run_apart<SyncPiece>(
      info.Env(),
      [device = open_device(info.Env()), offset, into = std::span(buffer.Data(), buffer.Length())] {
        return read_sync_piece(*device, offset, into);
      },
      [](Napi::Env env, SyncPiece& piece) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("bytes", Napi::Number::New(env, piece.bytes));
        object.Set("compressed", Napi::Boolean::New(env, piece.compressed));
        object.Set("crc32c", Napi::Number::New(env, piece.crc32c));
        return object;
      },
      {buffer});
}

/// (offset, length, blockBytes, key)
Napi::Value DeviceObject::hash_blocks(const Napi::CallbackInfo& info) {
  return run_apart<BlockHashes::Bytes>(
      info.Env(),
      [device = open_device(info.Env()), offset = to_u64(info[0], "offset"),
       length = to_u32(info[1], "length"), block_bytes = to_block_bytes(info[2]),
       key = to_key(info[3])]() -> Result<BlockHashes::Bytes> {
        auto hashes = BlockHashes::begin(key, block_bytes);
        if (!hashes.ok()) return hashes.error();
        for (uint64_t done = 0; done < length;) {
          const uint64_t bytes = std::min<uint64_t>(length - done, kPieceBytes);
          if (const Errno error = device->read_past_cache(offset + done, bytes, piece_memory()))
            return system_error("IO_ERROR", "read", error);
          if (Outcome added = hashes->add({piece_memory(), bytes}); !added.ok()) return added.error();
          done += bytes;
        }
        return hashes->end();
      },
      hashes_value);
}

/// (offset, rawBytes, compressed, crc32c, data)
Napi::Value DeviceObject::write_piece(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const uint32_t raw_bytes = to_u32(info[1], "rawBytes");
  const auto data = to_buffer(info[4], "data");
  const SyncPiece piece{static_cast<uint32_t>(data.Length()), info[2].ToBoolean().Value(),
                        to_u32(info[3], "crc32c")};
  return run_apart<Nothing>(
      info.Env(),
      [device = open_device(info.Env()), offset, raw_bytes, piece, bytes = data.Data()] {
        return write_sync_piece(*device, offset, raw_bytes, piece, bytes);
      },
      undefined, {data});
}

Napi::Value DeviceObject::write(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const auto buffer = to_buffer(info[1], "from");
  return run_apart<Nothing>(
      info.Env(),
      [device = open_device(info.Env()), offset, data = buffer.Data(), length = buffer.Length()] {
        return from_errno(device->write(offset, length, data, {}), "write");
      },
      undefined, {buffer});
}

Napi::Value DeviceObject::zero(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const uint64_t length = to_u64(info[1], "length");
  return run_apart<Nothing>(
      info.Env(),
      [device = open_device(info.Env()), offset, length] {
        return from_errno(device->zero(offset, length, {}), "zero");
      },
      undefined);
}

Napi::Value DeviceObject::flush(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(), [device = open_device(info.Env())] { return from_errno(device->flush(), "flush"); },
      undefined);
}

Napi::Value DeviceObject::forget_cached(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [device = open_device(info.Env())]() -> Outcome {
        device->forget_cached();
        return Nothing{};
      },
      undefined);
}

Napi::Value DeviceObject::close(const Napi::CallbackInfo& info) {
  // Closing may wait for the disk: not on the main thread.
  return run_apart<Nothing>(
      info.Env(),
      [device = std::move(device_)]() mutable -> Outcome {
        device.reset();
        return Nothing{};
      },
      undefined);
}

Napi::Value DeviceObject::republish(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const uint32_t length = to_u32(info[1], "length");
  return run_apart<std::optional<uint64_t>>(
      info.Env(),
      [device = captured(info.Env()), offset, length]() -> Result<std::optional<uint64_t>> {
        uint64_t lsn = 0;
        const Errno error = device->republish(offset, length, &lsn);
        if (error == EAGAIN) return std::optional<uint64_t>();
        if (error != 0) return system_error("IO_ERROR", "resync read at " + std::to_string(offset), error);
        return std::optional<uint64_t>(lsn);
      },
      [](Napi::Env env, std::optional<uint64_t>& lsn) -> Napi::Value {
        if (!lsn) return env.Null();
        return big(env, *lsn);
      });
}

Napi::Value DeviceObject::read_settled(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_u64(info[0], "offset");
  const auto buffer = to_buffer(info[1], "into");
  return run_apart<uint64_t>(
      info.Env(),
      [device = captured(info.Env()), offset, data = buffer.Data(),
       length = buffer.Length()]() -> Result<uint64_t> {
        uint64_t lsn = 0;
        const Errno error = device->read_settled(offset, length, data, &lsn);
        if (error != 0)
          return system_error("IO_ERROR", "read for a comparison at " + std::to_string(offset), error);
        return lsn;
      },
      [](Napi::Env env, uint64_t& lsn) -> Napi::Value { return big(env, lsn); }, {buffer});
}

Napi::Value DeviceObject::fence(const Napi::CallbackInfo& info) {
  return run_apart<uint64_t>(
      info.Env(), [device = captured(info.Env())]() -> Result<uint64_t> { return device->fence(); },
      [](Napi::Env env, uint64_t& lsn) -> Napi::Value { return big(env, lsn); });
}

Napi::Value DeviceObject::remeasure(const Napi::CallbackInfo& info) {
  return run_apart<uint64_t>(
      info.Env(), [device = open_device(info.Env())] { return device->remeasure(); },
      [this](Napi::Env env, uint64_t& bytes) -> Napi::Value {
        if (device_) size_ = device_->size();
        return big(env, bytes);
      },
      {Value()});
}

Napi::Value DeviceObject::prepare_growth(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [device = captured(info.Env()), bytes = to_u64(info[0], "bytes")] {
        return device->prepare_growth(bytes);
      },
      undefined);
}

Napi::Value DeviceObject::grow(const Napi::CallbackInfo& info) {
  captured(info.Env())->grow(to_u64(info[0], "bytes"));
  size_ = device_->size();
  return info.Env().Undefined();
}

Napi::Value DeviceObject::clean_up(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [device = captured(info.Env())]() -> Outcome {
        device->clean_up();
        return Nothing{};
      },
      undefined);
}

Napi::Value DeviceObject::settle(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [device = captured(info.Env())]() -> Outcome {
        device->settle_in_flight();
        return Nothing{};
      },
      undefined);
}

Napi::Value DeviceObject::in_flight(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), captured(info.Env())->in_flight_memfd());
}

Napi::Value DeviceObject::activity(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CapturedDevice::Activity activity = captured(env)->activity();
  auto object = Napi::Object::New(env);
  object.Set("underWay", Napi::Number::New(env, activity.under_way));
  object.Set("atBacking", Napi::Number::New(env, activity.at_backing));
  object.Set("ended", big(env, activity.ended));
  return object;
}

namespace {

Napi::Object latency(Napi::Env env, const LatencyHistogram::Snapshot& snapshot) {
  auto counts = Napi::Array::New(env, snapshot.counts.size());
  for (uint32_t bucket = 0; bucket < snapshot.counts.size(); ++bucket)
    counts.Set(bucket, big(env, snapshot.counts[bucket]));
  auto object = Napi::Object::New(env);
  object.Set("counts", counts);
  object.Set("sumNs", big(env, snapshot.sum_ns));
  return object;
}

}  // namespace

Napi::Value DeviceObject::counters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CapturedDevice::Counters counters = captured(env)->counters();
  auto object = Napi::Object::New(env);
  object.Set("reads", big(env, counters.reads));
  object.Set("readBytes", big(env, counters.read_bytes));
  object.Set("writes", big(env, counters.writes));
  object.Set("writeBytes", big(env, counters.write_bytes));
  object.Set("errors", big(env, counters.errors));
  object.Set("readLatency", latency(env, counters.read_latency));
  object.Set("writeLatency", latency(env, counters.write_latency));
  object.Set("flushLatency", latency(env, counters.flush_latency));
  return object;
}

}  // namespace afterimage::binding
