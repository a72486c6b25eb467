// Base images of native/index.ts. Threads: main thread only; the work goes to worker threads.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_base(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
