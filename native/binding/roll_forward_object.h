// RollForward of native/index.ts. Threads: main thread only; the work goes to worker threads, one call at a
// time.
#pragma once

#include <napi.h>

#include "device/point_in_time_device.h"

namespace afterimage::binding {

void define_roll_forward(Napi::Env env, Napi::Object exports);

/// PointOptions of native/index.ts.
PointSource to_point_source(const Napi::Value& value);

}  // namespace afterimage::binding
