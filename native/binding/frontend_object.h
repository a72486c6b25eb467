// NbdServer, FuseServer and loop devices of native/index.ts.
//
// Threads: main thread; start() and stop() run on worker threads.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_frontends(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
