// Small functions over bytes, of native/index.ts: checksums, zero detection, LZ4 blocks; and the lock file.
//
// Threads: main thread.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_bytes(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
