#include "binding/socket.h"

#include "binding/values.h"
#include "os/connected_socket.h"

namespace afterimage::binding {
namespace {

Napi::Value peer_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto found = peer_credentials(static_cast<int>(to_u32(info[0], "descriptor")));
  if (!found.ok()) throw_error(env, found.error());
  auto object = Napi::Object::New(env);
  object.Set("pid", found->pid);
  object.Set("uid", found->uid);
  return object;
}

Napi::Value is_closed(const Napi::CallbackInfo& info) {
  const auto found = is_tcp_closed(static_cast<int>(to_u32(info[0], "descriptor")));
  if (!found.ok()) throw_error(info.Env(), found.error());
  return Napi::Boolean::New(info.Env(), *found);
}

}  // namespace

void define_socket(Napi::Env env, Napi::Object exports) {
  exports.Set("peerCredentials", Napi::Function::New<peer_of>(env));
  exports.Set("isTcpClosed", Napi::Function::New<is_closed>(env));
}

}  // namespace afterimage::binding
