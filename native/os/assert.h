// AFTERIMAGE_ASSERT: ends the process when the program itself is wrong. Never for what a disk, a wire or a
// user can cause: those are Results.
//
// Threads: any.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace afterimage {

[[noreturn]] inline void assertion_failed(const char* condition, const char* protects, const char* file,
                                          int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s (protects: %s)\n", file, line, condition, protects);
  std::abort();
}

}  // namespace afterimage

/// `protects` names what would be lost if the program went on.
#define AFTERIMAGE_ASSERT(condition, protects) \
  ((condition) ? static_cast<void>(0)          \
               : ::afterimage::assertion_failed(#condition, protects, __FILE__, __LINE__))
