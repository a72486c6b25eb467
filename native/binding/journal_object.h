// JournalWriter, segment scans, runs and points of native/index.ts.
//
// Threads: main thread; scans on worker threads. A writer's completions come from its own thread and are
// carried over by a thread-safe function, in order. Ownership: a frame's Buffer is held until its promise is
// settled.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_journal(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
