// The layouts of the memory that an agent leaves to its successor, for JavaScript (agent/layouts.ts).
//
// Threads: the JavaScript thread.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_layouts(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
