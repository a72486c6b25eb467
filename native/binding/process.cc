#include "binding/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "binding/async.h"
#include "binding/values.h"
#include "os/io_thread.h"
#include "os/notify_socket.h"
#include "os/sealed_memory.h"

namespace afterimage::binding {
namespace {

Napi::Value protect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto refused = Napi::Array::New(env);
  uint32_t index = 0;
  for (const std::string& what : protect_io_process()) refused.Set(index++, Napi::String::New(env, what));
  return refused;
}

Napi::Value has_manager(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), has_notify_socket());
}

Napi::Value tell_manager(const Napi::CallbackInfo& info) {
  return check(info.Env(), notify(to_string(info[0], "assignments")));
}

Napi::Value store(const Napi::CallbackInfo& info) {
  const auto descriptor = static_cast<int>(to_u32(info[1], "descriptor"));
  return check(info.Env(), store_descriptor(to_string(info[0], "name"), descriptor));
}

Napi::Value forget(const Napi::CallbackInfo& info) {
  return check(info.Env(), forget_descriptor(to_string(info[0], "name")));
}

Napi::Value await_manager(const Napi::CallbackInfo& info) {
  const std::chrono::milliseconds patience(to_u32(info[0], "patienceMs"));
  return run_async<Nothing>(
      info.Env(), [patience] { return await_notified(patience); }, undefined);
}

Napi::Value take_stored(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto taken = Napi::Array::New(env);
  uint32_t index = 0;
  for (StoredDescriptor& one : take_stored_descriptors()) {
    auto object = Napi::Object::New(env);
    object.Set("name", one.name);
    object.Set("descriptor", one.descriptor.release());
    taken.Set(index++, object);
  }
  return taken;
}

Napi::Value make_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = to_buffer(info[1], "bytes");
  auto made = make_sealed_memory(to_string(info[0], "name"), {bytes.Data(), bytes.Length()});
  if (!made.ok()) throw_error(env, made.error());
  return Napi::Number::New(env, made->release());
}

/// Returns only when it failed.
Napi::Value become(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::vector<std::string> program{to_string(info[0], "path")};
  const auto given = info[1].As<Napi::Array>();
  for (uint32_t i = 0; i < given.Length(); ++i) program.push_back(to_string(given.Get(i), "argument"));
  std::vector<char*> arguments;
  for (std::string& argument : program) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  // Node has every descriptor closed on exec, the standard streams too.
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) ::fcntl(stream, F_SETFD, 0);
  ::execv(arguments.front(), arguments.data());
  throw_error(env, system_error("SUPERVISOR_UNAVAILABLE", program.front(), errno));
}

/// What waits for a disk that does not answer keeps exit(), which joins libuv's worker threads, from
/// returning.
Napi::Value end(const Napi::CallbackInfo& info) { ::_exit(static_cast<int>(to_u32(info[0], "status"))); }

}  // namespace

void define_process(Napi::Env env, Napi::Object exports) {
  exports.Set("protectIoProcess", Napi::Function::New<protect>(env));
  exports.Set("hasServiceManager", Napi::Function::New<has_manager>(env));
  exports.Set("tellServiceManager", Napi::Function::New<tell_manager>(env));
  exports.Set("awaitServiceManager", Napi::Function::New<await_manager>(env));
  exports.Set("storeDescriptor", Napi::Function::New<store>(env));
  exports.Set("forgetDescriptor", Napi::Function::New<forget>(env));
  exports.Set("takeStoredDescriptors", Napi::Function::New<take_stored>(env));
  exports.Set("makeSealedMemory", Napi::Function::New<make_memory>(env));
  exports.Set("endProcess", Napi::Function::New<end>(env));
  exports.Set("becomeProgram", Napi::Function::New<become>(env));
}

}  // namespace afterimage::binding
