#include "binding/values.h"

#include <cstring>

namespace afterimage::binding {
namespace {

[[noreturn]] void wrong_type(Napi::Env env, const char* what, const char* expected) {
  throw Napi::TypeError::New(env, std::string(what) + " must be " + expected);
}

}  // namespace

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  Napi::Error js = Napi::Error::New(env, error.message);
  js.Set("code", Napi::String::New(env, error.code));
  js.Set("errno", Napi::Number::New(env, error.sys));
  return js;
}

void throw_error(Napi::Env env, const Error& error) { throw to_js_error(env, error); }

uint64_t to_u64(const Napi::Value& value, const char* what) {
  if (!value.IsBigInt()) wrong_type(value.Env(), what, "a bigint");
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) wrong_type(value.Env(), what, "an unsigned 64-bit integer");
  return number;
}

uint32_t to_u32(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) wrong_type(value.Env(), what, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  // Also false for NaN, before the conversion that would be undefined.
  const bool fits = number >= 0 && number <= 4294967295.0;
  if (!fits || number != static_cast<uint32_t>(number))
    wrong_type(value.Env(), what, "an unsigned 32-bit integer");
  return static_cast<uint32_t>(number);
}

std::string to_string(const Napi::Value& value, const char* what) {
  if (!value.IsString()) wrong_type(value.Env(), what, "a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Buffer<std::byte> to_buffer(const Napi::Value& value, const char* what) {
  if (!value.IsBuffer()) wrong_type(value.Env(), what, "a Buffer");
  return value.As<Napi::Buffer<std::byte>>();
}

uint64_t get_u64(const Napi::Object& object, const char* key) { return to_u64(object.Get(key), key); }
uint32_t get_u32(const Napi::Object& object, const char* key) { return to_u32(object.Get(key), key); }
std::string get_string(const Napi::Object& object, const char* key) {
  return to_string(object.Get(key), key);
}

bool get_bool(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsBoolean()) wrong_type(object.Env(), key, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

Uuid get_uuid(const Napi::Object& object, const char* key) {
  const auto buffer = to_buffer(object.Get(key), key);
  Uuid uuid{};
  if (buffer.Length() != uuid.size()) wrong_type(object.Env(), key, "16 bytes");
  std::memcpy(uuid.data(), buffer.Data(), uuid.size());
  return uuid;
}

}  // namespace afterimage::binding
