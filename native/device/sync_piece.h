// A piece of an initial sync: a stretch of a volume as it travels (docs/PROTOCOL.md, SyncData).
//
// Threads: blocks on I/O; any worker thread, whose piece_memory() it uses.
// Ownership: borrows all memory for the call.
#pragma once

#include <cstdint>
#include <span>

#include "device/block_device.h"
#include "device/piece_memory.h"

namespace afterimage {

struct SyncPiece {
  uint32_t bytes = 0;       // as it travels; 0: all of it is zero
  bool compressed = false;  // an LZ4 block
  uint32_t crc32c = 0;      // of what travels
};

/// Reads as much as `into` holds (≤ kPieceBytes) at `offset`, and leaves there what is to travel:
/// compressed, where that takes an eighth off. What is a hole is not read. Errors: IO_ERROR.
Result<SyncPiece> read_sync_piece(BlockDevice& device, uint64_t offset, std::span<std::byte> into);

/// Checks and expands a piece that has come, and writes it: `raw_bytes` at `offset`. Errors: MESSAGE_INVALID,
/// and nothing was written; IO_ERROR.
Outcome write_sync_piece(BlockDevice& device, uint64_t offset, uint32_t raw_bytes, const SyncPiece& piece,
                         const std::byte* data);

}  // namespace afterimage
