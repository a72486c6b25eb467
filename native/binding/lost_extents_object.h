// LostExtents of native/index.ts. Threads: main thread only; the work goes to worker threads, one call at a
// time.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_lost_extents(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
