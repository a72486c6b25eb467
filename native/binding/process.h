// What concerns the process as a whole: its protection, and its service manager.
//
// Threads: the main thread.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_process(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
