// What the addon keeps per Node environment.
#pragma once

#include <napi.h>

#include "binding/apart.h"

namespace afterimage::binding {

struct AddonData {
  explicit AddonData(Napi::Env env) : apart(env) {}

  Apart apart;
  Napi::FunctionReference device;  // the constructor of BlockDevice
  Napi::FunctionReference capture_group;
  Napi::FunctionReference dirty_log;
  Napi::FunctionReference nbd_server;
  Napi::FunctionReference nbd_device;
  Napi::FunctionReference fuse_server;
  Napi::FunctionReference journal_writer;
  Napi::FunctionReference roll_forward;
  Napi::FunctionReference lost_extents;

  static AddonData& of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }
};

}  // namespace afterimage::binding
