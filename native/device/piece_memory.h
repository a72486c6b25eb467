// Memory for a piece of a volume that a worker thread reads, packs, hashes or copies: page-aligned, as direct
// I/O wants it, and used again by the thread's next piece.
//
// Threads: each has its own, until it ends.
#pragma once

#include <cstddef>
#include <cstdint>

namespace afterimage {

constexpr uint32_t kPieceBytes = 1u << 20;

/// Of the calling thread: kPieceBytes, whose content is whatever was left there.
std::byte* piece_memory();

}  // namespace afterimage
