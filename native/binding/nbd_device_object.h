// NbdDevice of native/index.ts: a volume as a device of the kernel's nbd driver.
//
// Threads: main thread; attaching, detaching and stopping run on worker threads.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_nbd_device(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
