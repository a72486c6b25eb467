// Node-API functions about connected sockets. Threads: JavaScript's.
#pragma once

#include <napi.h>

namespace afterimage::binding {

void define_socket(Napi::Env env, Napi::Object exports);

}  // namespace afterimage::binding
