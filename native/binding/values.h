// Values across the boundary. Main thread only.
#pragma once

#include <napi.h>

#include <string>

#include "os/result.h"
#include "os/uuid.h"

namespace afterimage::binding {

/// Throws the JavaScript error for `error`, with `code` (and `errno`) on it.
[[noreturn]] void throw_error(Napi::Env env, const Error& error);
Napi::Error to_js_error(Napi::Env env, const Error& error);
/// Undefined, or throws.
inline Napi::Value check(Napi::Env env, const Outcome& outcome) {
  if (!outcome.ok()) throw_error(env, outcome.error());
  return env.Undefined();
}

/// Property readers: TypeError naming the property when it is not what the door's types promise.
uint64_t get_u64(const Napi::Object& object, const char* key);
uint32_t get_u32(const Napi::Object& object, const char* key);
bool get_bool(const Napi::Object& object, const char* key);
std::string get_string(const Napi::Object& object, const char* key);
Uuid get_uuid(const Napi::Object& object, const char* key);

/// The same for a positional argument.
uint64_t to_u64(const Napi::Value& value, const char* what);
uint32_t to_u32(const Napi::Value& value, const char* what);
std::string to_string(const Napi::Value& value, const char* what);
Napi::Buffer<std::byte> to_buffer(const Napi::Value& value, const char* what);

inline Napi::BigInt big(Napi::Env env, uint64_t value) { return Napi::BigInt::New(env, value); }

}  // namespace afterimage::binding
