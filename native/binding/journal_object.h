// JournalWriter, segment scans, runs and points of native/index.ts.
//
// Threads: main thread; scans on worker threads. A writer's completions come from its own thread and are
// carried over by a thread-safe function, in order. Ownership: a frame's Buffer is held until its promise is
// settled.
#pragma once

#include <napi.h>

#include <vector>

#include "device/point_in_time_device.h"
#include "journal/segment.h"

namespace afterimage::binding {

void define_journal(Napi::Env env, Napi::Object exports);

/// SegmentInfo and PointTile[] of native/index.ts.
SegmentInfo to_segment(const Napi::Object& object);
std::vector<PointSource::Tile> to_tiles(const Napi::Value& value);

}  // namespace afterimage::binding
