// A small document in a memfd that nobody can change any more: what a successor process is told.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

/// Errors: MEMORY_UNAVAILABLE.
Result<Fd> make_sealed_memory(const std::string& name, std::span<const std::byte> bytes);

}  // namespace afterimage
