// What it means that the system refuses a file.
//
// Threads: any.
#pragma once

#include <cerrno>
#include <string>

#include "os/result.h"

namespace afterimage {

/// PERMISSION_DENIED for EACCES, EPERM and EROFS (nothing is wrong with the disk), else IO_ERROR. `what` as
/// for system_error().
inline Error file_error(const std::string& what, Errno sys) {
  const bool forbidden = sys == EACCES || sys == EPERM || sys == EROFS;
  return system_error(forbidden ? "PERMISSION_DENIED" : "IO_ERROR", what, sys);
}

}  // namespace afterimage
