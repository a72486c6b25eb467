// A lock file: one process at a time. Held by the returned descriptor until it is closed or the process ends.
//
// Threads: any.
#pragma once

#include <string>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

/// Takes the exclusive lock on `path` (created 0600). An empty Fd when another process, or another descriptor
/// of this one, holds it. Errors: PERMISSION_DENIED, IO_ERROR.
Result<Fd> take_lock(const std::string& path);

}  // namespace afterimage
