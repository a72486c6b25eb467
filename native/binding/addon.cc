// The addon's entry. What it exports is typed in native/index.ts.
#include <napi.h>

#include "binding/addon_data.h"
#include "binding/base_object.h"
#include "binding/bytes.h"
#include "binding/capture_object.h"
#include "binding/device_object.h"
#include "binding/dirty_log_object.h"
#include "binding/frontend_object.h"
#include "binding/journal_object.h"
#include "binding/layouts.h"
#include "binding/lost_extents_object.h"
#include "binding/nbd_device_object.h"
#include "binding/process.h"
#include "binding/roll_forward_object.h"
#include "binding/socket.h"

namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  using namespace afterimage::binding;
  env.SetInstanceData(new AddonData(env));
  DeviceObject::define(env, exports);
  CaptureObject::define(env, exports);
  DirtyLogObject::define(env, exports);
  define_frontends(env, exports);
  define_nbd_device(env, exports);
  define_journal(env, exports);
  define_roll_forward(env, exports);
  define_lost_extents(env, exports);
  define_base(env, exports);
  define_bytes(env, exports);
  define_process(env, exports);
  define_socket(env, exports);
  define_layouts(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(afterimage, initialize)
