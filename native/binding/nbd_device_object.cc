#include "binding/nbd_device_object.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "binding/addon_data.h"
#include "binding/async.h"
#include "binding/device_object.h"
#include "binding/values.h"
#include "frontend/nbd_device.h"
#include "frontend/nbd_device_server.h"

namespace afterimage::binding {
namespace {

/// A device and who serves it.
struct ServedDevice {
  std::string name;
  std::unique_ptr<NbdDeviceServer> server;
};
using Served = std::shared_ptr<ServedDevice>;

class NbdDeviceObject : public Napi::ObjectWrap<NbdDeviceObject> {
 public:
  static void define(Napi::Env env) {
    AddonData::of(env).nbd_device = Napi::Persistent(DefineClass(
        env, "NbdDevice",
        {InstanceAccessor<&NbdDeviceObject::name>("name"), InstanceMethod<&NbdDeviceObject::stop>("stop")}));
  }
  static Napi::Value create(Napi::Env env, Served& served) {
    const Napi::Object object = AddonData::of(env).nbd_device.New({});
    NbdDeviceObject* self = Unwrap(object);
    self->name_ = served->name;
    self->served_ = std::move(served);
    return object;
  }
  explicit NbdDeviceObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NbdDeviceObject>(info) {}

 private:
  Napi::Value name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), name_); }
  Napi::Value stop(const Napi::CallbackInfo& info) {
    return run_apart<Nothing>(
        info.Env(),
        [served = std::move(served_)]() mutable -> Outcome {
          served.reset();
          return Nothing{};
        },
        undefined);
  }

  std::string name_;
  Served served_;
};

NbdDeviceServer::Offer offer_to(std::shared_ptr<NbdDriver> driver, const std::string& name,
                                const std::string& backend) {
  return [driver = std::move(driver), name, backend](int socket, uint32_t timeout_seconds) {
    return driver->reconnect(name, backend, timeout_seconds, socket);
  };
}

Result<Served> attach_device(const std::shared_ptr<BlockDevice>& device, const std::string& backend) {
  auto opened = NbdDriver::open();
  if (!opened.ok()) return opened.error();
  auto driver = std::make_shared<NbdDriver>(std::move(*opened));
  std::array<int, 2> pair{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return system_error("NBD_ATTACH", "socketpair", errno);
  Fd ours(pair[0]);
  const Fd drivers(pair[1]);
  const NbdDeviceOptions options{.size = device->size(),
                                 .block_size = device->block_size(),
                                 .read_only = device->read_only(),
                                 .backend = backend,
                                 .timeout_seconds = kNbdTimeoutSecondsMin};
  auto name = driver->connect(options, drivers.get());
  if (!name.ok()) return name.error();
  auto server = NbdDeviceServer::start(device, std::move(ours), offer_to(driver, *name, backend));
  if (!server.ok()) {
    driver->disconnect(*name, backend);
    return server.error();
  }
  return std::make_shared<ServedDevice>(ServedDevice{*name, std::move(*server)});
}

Result<Served> resume_device(const std::shared_ptr<BlockDevice>& device, const std::string& backend,
                             const std::string& name) {
  auto opened = NbdDriver::open();
  if (!opened.ok()) return opened.error();
  const Errno error = check_nbd_owner(name, backend);
  if (error == ENODEV) return Error{"NBD_GONE", name + " is not attached any more"};
  if (error != 0) return system_error("NBD_UNAVAILABLE", "look who has " + name, error);
  auto driver = std::make_shared<NbdDriver>(std::move(*opened));
  auto server = NbdDeviceServer::start(device, Fd(), offer_to(driver, name, backend));
  if (!server.ok()) return server.error();
  return std::make_shared<ServedDevice>(ServedDevice{name, std::move(*server)});
}

Napi::Value attach(const Napi::CallbackInfo& info) {
  return run_apart<Served>(
      info.Env(),
      [device = DeviceObject::device_of(info[0]), backend = to_string(info[1], "backend")] {
        return attach_device(device, backend);
      },
      NbdDeviceObject::create);
}

Napi::Value resume(const Napi::CallbackInfo& info) {
  return run_apart<Served>(
      info.Env(),
      [device = DeviceObject::device_of(info[0]), backend = to_string(info[1], "backend"),
       name = to_string(info[2], "name")] { return resume_device(device, backend, name); },
      NbdDeviceObject::create);
}

Napi::Value detach(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [name = to_string(info[0], "name"), backend = to_string(info[1], "backend"),
       forced = info[2].ToBoolean().Value()]() -> Outcome {
        auto driver = NbdDriver::open();
        if (!driver.ok()) return driver.error();
        if (!forced) return driver->detach(name, backend);
        driver->disconnect(name, backend);
        return Nothing{};
      },
      undefined);
}

Napi::Value resize(const Napi::CallbackInfo& info) {
  return run_apart<Nothing>(
      info.Env(),
      [name = to_string(info[0], "name"), backend = to_string(info[1], "backend"),
       bytes = to_u64(info[2], "bytes")]() -> Outcome {
        auto driver = NbdDriver::open();
        if (!driver.ok()) return driver.error();
        return driver->resize(name, backend, bytes);
      },
      undefined);
}

}  // namespace

void define_nbd_device(Napi::Env env, Napi::Object exports) {
  NbdDeviceObject::define(env);
  exports.Set("attachNbd", Napi::Function::New<attach>(env));
  exports.Set("resumeNbd", Napi::Function::New<resume>(env));
  exports.Set("detachNbd", Napi::Function::New<detach>(env));
  exports.Set("resizeNbd", Napi::Function::New<resize>(env));
}

}  // namespace afterimage::binding
