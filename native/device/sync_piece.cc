#include "device/sync_piece.h"

#include <lz4.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "os/crc32c.h"

namespace afterimage {
namespace {

Error invalid(uint64_t offset, const std::string& what) {
  return {"MESSAGE_INVALID", "sync data at " + std::to_string(offset) + ": " + what, 0};
}

Result<bool> is_hole(BlockDevice& device, uint64_t offset, uint64_t length) {
  std::vector<AllocationExtent> extents;
  if (const Errno error = device.allocation(offset, length, &extents))
    return system_error("IO_ERROR", "look for holes at " + std::to_string(offset), error);
  return std::all_of(extents.begin(), extents.end(), [](const auto& extent) { return extent.zero; });
}

}  // namespace

Result<SyncPiece> read_sync_piece(BlockDevice& device, uint64_t offset, std::span<std::byte> into) {
  if (into.size() > kPieceBytes) return system_error("IO_ERROR", "a piece of a sync", EINVAL);
  const auto hole = is_hole(device, offset, into.size());
  if (!hole.ok()) return hole.error();
  if (*hole) return SyncPiece{};
  std::byte* const raw = piece_memory();
  const auto raw_bytes = static_cast<uint32_t>(into.size());
  if (const Errno error = device.read_past_cache(offset, raw_bytes, raw))
    return system_error("IO_ERROR", "read", error);
  if (is_zero(raw, raw_bytes)) return SyncPiece{};

  SyncPiece piece;
  const int packed =
      LZ4_compress_default(reinterpret_cast<const char*>(raw), reinterpret_cast<char*>(into.data()),
                           static_cast<int>(raw_bytes), static_cast<int>(raw_bytes - raw_bytes / 8));
  piece.compressed = packed > 0;
  piece.bytes = piece.compressed ? static_cast<uint32_t>(packed) : raw_bytes;
  if (!piece.compressed) std::memcpy(into.data(), raw, raw_bytes);
  piece.crc32c = crc32c(into.data(), piece.bytes);
  return piece;
}

Outcome write_sync_piece(BlockDevice& device, uint64_t offset, uint32_t raw_bytes, const SyncPiece& piece,
                         const std::byte* data) {
  if (raw_bytes > kPieceBytes) return invalid(offset, std::to_string(raw_bytes) + " bytes");
  if (crc32c(data, piece.bytes) != piece.crc32c) return invalid(offset, "its checksum does not match");
  if (!piece.compressed && piece.bytes != raw_bytes)
    return invalid(offset, std::to_string(piece.bytes) + " bytes, not " + std::to_string(raw_bytes));
  std::byte* const raw = piece_memory();
  if (piece.compressed) {
    const int bytes = LZ4_decompress_safe(reinterpret_cast<const char*>(data), reinterpret_cast<char*>(raw),
                                          static_cast<int>(piece.bytes), static_cast<int>(raw_bytes));
    if (bytes < 0 || static_cast<uint32_t>(bytes) != raw_bytes)
      return invalid(offset, "it does not decompress to its length");
  } else {
    std::memcpy(raw, data, raw_bytes);
  }
  if (const Errno error = device.write(offset, raw_bytes, raw, {}))
    return system_error("IO_ERROR", "write", error);
  return Nothing{};
}

}  // namespace afterimage
