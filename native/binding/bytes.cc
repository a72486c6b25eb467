#include "binding/bytes.h"

#include <lz4.h>

#include "binding/values.h"
#include "device/block_device.h"
#include "os/crc32c.h"
#include "os/lock_file.h"

namespace afterimage::binding {
namespace {

constexpr size_t kBlockBytesMax = 8u << 20;  // LZ4 1.9.2 takes int sizes: far below

Napi::Value checksum(const Napi::CallbackInfo& info) {
  const auto bytes = to_buffer(info[0], "bytes");
  return Napi::Number::New(info.Env(), crc32c(bytes.Data(), bytes.Length()));
}

Napi::Value zero(const Napi::CallbackInfo& info) {
  const auto bytes = to_buffer(info[0], "bytes");
  return Napi::Boolean::New(info.Env(), is_zero(bytes.Data(), bytes.Length()));
}

Napi::Value compress(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = to_buffer(info[0], "bytes");
  if (bytes.Length() > kBlockBytesMax) throw Napi::RangeError::New(env, "block beyond its limit");
  const size_t room = bytes.Length() - bytes.Length() / 8;
  auto packed = Napi::Buffer<char>::New(env, room);
  const int length = LZ4_compress_default(reinterpret_cast<const char*>(bytes.Data()), packed.Data(),
                                          static_cast<int>(bytes.Length()), static_cast<int>(room));
  if (length <= 0) return env.Null();
  return packed.Get("subarray")
      .As<Napi::Function>()
      .Call(packed, {Napi::Number::New(env, 0), Napi::Number::New(env, length)});
}

Napi::Value decompress(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = to_buffer(info[0], "bytes");
  const uint32_t raw_bytes = to_u32(info[1], "rawBytes");
  if (bytes.Length() > kBlockBytesMax || raw_bytes > kBlockBytesMax)
    throw Napi::RangeError::New(env, "block beyond its limit");
  auto raw = Napi::Buffer<char>::New(env, raw_bytes);
  const int length = LZ4_decompress_safe(reinterpret_cast<const char*>(bytes.Data()), raw.Data(),
                                         static_cast<int>(bytes.Length()), static_cast<int>(raw_bytes));
  if (length < 0 || static_cast<uint32_t>(length) != raw_bytes)
    throw_error(env, {"MESSAGE_INVALID", "an LZ4 block does not decompress to its length", 0});
  return raw;
}

Napi::Value lock(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto fd = take_lock(to_string(info[0], "path"));
  if (!fd.ok()) throw_error(env, fd.error());
  if (!*fd) return env.Null();
  return Napi::Number::New(env, fd->release());
}

}  // namespace

void define_bytes(Napi::Env env, Napi::Object exports) {
  exports.Set("crc32c", Napi::Function::New<checksum>(env));
  exports.Set("isZero", Napi::Function::New<zero>(env));
  exports.Set("compress", Napi::Function::New<compress>(env));
  exports.Set("decompress", Napi::Function::New<decompress>(env));
  exports.Set("lockFile", Napi::Function::New<lock>(env));
}

}  // namespace afterimage::binding
