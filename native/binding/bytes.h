// Small functions over bytes, of native/index.ts: checksums and hashes; and the lock file.
//
// Threads: define_bytes() on the main thread; hashes are made on others.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_bytes(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
