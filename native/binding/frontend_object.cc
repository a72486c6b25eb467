#include "binding/frontend_object.h"

#include <fcntl.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/device_object.h"
#include "binding/values.h"
#include "frontend/fuse_server.h"
#include "frontend/loop_device.h"
#include "frontend/nbd_server.h"
#include "os/file_error.h"

namespace afterimage::binding {
namespace {

/// stop() as a promise; a second one resolves at once.
template <typename Server>
Napi::Value stop_server(Napi::Env env, std::shared_ptr<Server> server) {
  return run_apart<Nothing>(
      env,
      [server = std::move(server)]() mutable -> Outcome {
        if (server) server->stop();
        server.reset();
        return Nothing{};
      },
      undefined);
}

class NbdObject : public Napi::ObjectWrap<NbdObject> {
 public:
  static void define(Napi::Env env) {
    AddonData::of(env).nbd_server = Napi::Persistent(
        DefineClass(env, "NbdServer",
                    {InstanceAccessor<&NbdObject::address>("address"),
                     InstanceAccessor<&NbdObject::connections>("connections"),
                     InstanceMethod<&NbdObject::listening>("listening"),
                     InstanceMethod<&NbdObject::admit>("admit"), InstanceMethod<&NbdObject::stop>("stop")}));
  }
  static Napi::Value create(Napi::Env env, std::shared_ptr<NbdServer>& server) {
    const Napi::Object object = AddonData::of(env).nbd_server.New({});
    NbdObject* self = Unwrap(object);
    self->address_ = server->address();
    self->server_ = std::move(server);
    return object;
  }
  explicit NbdObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NbdObject>(info) {}

 private:
  Napi::Value address(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), address_); }
  Napi::Value connections(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), server_ ? static_cast<double>(server_->stats().connections) : 0);
  }
  NbdServer& server(Napi::Env env) const {
    if (!server_) throw Napi::Error::New(env, "the NBD server is stopped");
    return *server_;
  }
  Napi::Value listening(const Napi::CallbackInfo& info) {
    auto copy = server(info.Env()).listening();
    if (!copy.ok()) throw_error(info.Env(), copy.error());
    return Napi::Number::New(info.Env(), copy->release());
  }
  Napi::Value admit(const Napi::CallbackInfo& info) { return check(info.Env(), server(info.Env()).admit()); }
  Napi::Value stop(const Napi::CallbackInfo& info) { return stop_server(info.Env(), std::move(server_)); }

  std::shared_ptr<NbdServer> server_;
  std::string address_;
};

class FuseObject : public Napi::ObjectWrap<FuseObject> {
 public:
  static void define(Napi::Env env) {
    AddonData::of(env).fuse_server = Napi::Persistent(DefineClass(
        env, "FuseServer",
        {InstanceMethod<&FuseObject::legacy>("legacy"), InstanceMethod<&FuseObject::stop>("stop")}));
  }
  static Napi::Value create(Napi::Env env, std::shared_ptr<FuseServer>& server) {
    const Napi::Object object = AddonData::of(env).fuse_server.New({});
    Unwrap(object)->server_ = std::move(server);
    return object;
  }
  explicit FuseObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FuseObject>(info) {}

 private:
  Napi::Value legacy(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!server_) throw Napi::Error::New(env, "the FUSE server is stopped");
    auto legacy = server_->legacy();
    if (!legacy.ok()) throw_error(env, legacy.error());
    auto object = Napi::Object::New(env);
    object.Set("fuse", legacy->fuse.release());
    object.Set("slots", legacy->slots.release());
    object.Set("mountPoint", legacy->mount_point);
    object.Set("connection", Napi::Number::New(env, legacy->connection));
    return object;
  }
  Napi::Value stop(const Napi::CallbackInfo& info) { return stop_server(info.Env(), std::move(server_)); }

  std::shared_ptr<FuseServer> server_;
};

NbdServer::Options nbd_options(const Napi::Object& object) {
  NbdServer::Options options;
  if (const Napi::Value path = object.Get("unix"); !path.IsNull())
    options.unix_path = to_string(path, "unix");
  if (const Napi::Value tcp = object.Get("tcp"); !tcp.IsNull()) {
    options.tcp_host = get_string(tcp.As<Napi::Object>(), "host");
    const uint32_t port = get_u32(tcp.As<Napi::Object>(), "port");
    if (port > 65535) throw Napi::RangeError::New(object.Env(), "port beyond 65535");
    options.tcp_port = static_cast<uint16_t>(port);
  }
  const auto exports = object.Get("exports").As<Napi::Array>();
  for (uint32_t i = 0; i < exports.Length(); ++i) {
    const auto item = exports.Get(i).As<Napi::Object>();
    options.exports.push_back({get_string(item, "name"), get_string(item, "description"),
                               DeviceObject::device_of(item.Get("device")), get_bool(item, "readOnly")});
  }
  return options;
}

/// The caller's stays the caller's.
Fd duplicate(Napi::Env env, uint32_t descriptor) {
  Fd copy(::fcntl(static_cast<int>(descriptor), F_DUPFD_CLOEXEC, 0));
  if (!copy) throw_error(env, file_error("another descriptor of " + std::to_string(descriptor), errno));
  return copy;
}

/// A predecessor's socket is the second argument, or null.
Napi::Value open_nbd_server(const Napi::CallbackInfo& info) {
  using Server = std::shared_ptr<NbdServer>;
  auto listening = std::make_shared<Fd>();
  if (!info[1].IsNull()) *listening = duplicate(info.Env(), to_u32(info[1], "listening"));
  return run_apart<Server>(
      info.Env(),
      [options = nbd_options(info[0].As<Napi::Object>()), listening]() mutable -> Result<Server> {
        options.listening = listening->get();
        auto server = NbdServer::open(options);
        if (!server.ok()) return server.error();
        return Server(std::move(*server));
      },
      NbdObject::create);
}

Napi::Value start_nbd_server(const Napi::CallbackInfo& info) {
  using Server = std::shared_ptr<NbdServer>;
  return run_apart<Server>(
      info.Env(),
      [options = nbd_options(info[0].As<Napi::Object>())]() -> Result<Server> {
        auto server = NbdServer::start(options);
        if (!server.ok()) return server.error();
        return Server(std::move(*server));
      },
      NbdObject::create);
}

FuseServer::Options fuse_options(const Napi::Object& object) {
  FuseServer::Options options;
  options.mount_point = get_string(object, "mountPoint");
  options.file_name = get_string(object, "fileName");
  options.device = DeviceObject::device_of(object.Get("device"));
  options.read_only = get_bool(object, "readOnly");
  options.threads = get_u32(object, "threads");
  return options;
}

/// `slots` may be null.
FuseServer::Legacy legacy_of(const Napi::Object& object) {
  FuseServer::Legacy legacy;
  legacy.fuse = duplicate(object.Env(), get_u32(object, "fuse"));
  if (!object.Get("slots").IsNull()) legacy.slots = duplicate(object.Env(), get_u32(object, "slots"));
  legacy.mount_point = get_string(object, "mountPoint");
  legacy.connection = get_u32(object, "connection");
  return legacy;
}

Napi::Value resume_fuse_server(const Napi::CallbackInfo& info) {
  using Server = std::shared_ptr<FuseServer>;
  auto legacy = std::make_shared<FuseServer::Legacy>(legacy_of(info[1].As<Napi::Object>()));
  return run_apart<Server>(
      info.Env(),
      [options = fuse_options(info[0].As<Napi::Object>()), legacy]() -> Result<Server> {
        auto server = FuseServer::resume(options, std::move(*legacy));
        if (!server.ok()) return server.error();
        return Server(std::move(*server));
      },
      FuseObject::create);
}

Napi::Value start_fuse_server(const Napi::CallbackInfo& info) {
  using Server = std::shared_ptr<FuseServer>;
  return run_apart<Server>(
      info.Env(),
      [options = fuse_options(info[0].As<Napi::Object>())]() -> Result<Server> {
        auto server = FuseServer::start(options);
        if (!server.ok()) return server.error();
        return Server(std::move(*server));
      },
      FuseObject::create);
}

Napi::Value attach(const Napi::CallbackInfo& info) {
  LoopOptions options;
  options.file = to_string(info[0], "file");
  options.block_size = to_u32(info[1], "blockSize");
  options.read_only = info[2].ToBoolean().Value();
  return run_apart<std::string>(
      info.Env(), [options] { return attach_loop(options); },
      [](Napi::Env env, std::string& device) -> Napi::Value { return Napi::String::New(env, device); });
}

Napi::Value resize(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [device = to_string(info[0], "device"), file = to_string(info[1], "file"),
       bytes = to_u64(info[2], "bytes")] { return resize_loop(device, file, bytes); },
      undefined);
}

Napi::Value is_over(const Napi::CallbackInfo& info) {
  const auto object = info[1].As<Napi::Object>();
  const FileIdentity file{.device = get_u64(object, "device"), .inode = get_u64(object, "inode")};
  return run_apart<bool>(
      info.Env(), [device = to_string(info[0], "device"), file] { return is_loop_over(device, file); },
      [](Napi::Env env, bool& is) -> Napi::Value { return Napi::Boolean::New(env, is); });
}

Napi::Value detach(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(), [device = to_string(info[0], "device")] { return detach_loop(device); }, undefined);
}

}  // namespace

void define_frontends(Napi::Env env, Napi::Object exports) {
  NbdObject::define(env);
  FuseObject::define(env);
  exports.Set("openNbdServer", Napi::Function::New<open_nbd_server>(env));
  exports.Set("startNbdServer", Napi::Function::New<start_nbd_server>(env));
  exports.Set("startFuseServer", Napi::Function::New<start_fuse_server>(env));
  exports.Set("attachLoop", Napi::Function::New<attach>(env));
  exports.Set("isLoopOver", Napi::Function::New<is_over>(env));
  exports.Set("detachLoop", Napi::Function::New<detach>(env));
  exports.Set("resizeLoop", Napi::Function::New<resize>(env));
  exports.Set("resumeFuseServer", Napi::Function::New<resume_fuse_server>(env));
}

}  // namespace afterimage::binding
