#include "device/sync_piece.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>

#include "journal_history.h"
#include "memory_device.h"
#include "os/crc32c.h"

using namespace afterimage;

namespace {

constexpr uint64_t kVolumeBytes = 4 * kPieceBytes;
constexpr uint64_t kAt = 512;

struct Travelled {
  SyncPiece piece;
  Bytes bytes;
};

Travelled read_at(BlockDevice& device, uint64_t offset, uint64_t length) {
  Travelled travelled{{}, Bytes(length)};
  const auto piece = read_sync_piece(device, offset, travelled.bytes);
  REQUIRE(piece.ok());
  travelled.piece = *piece;
  travelled.bytes.resize(piece->bytes);
  return travelled;
}

}  // namespace

TEST_CASE("a piece comes to be what it was, whatever it holds and wherever it lies") {
  Random random{11};
  for (const uint64_t length : {uint64_t{512}, uint64_t{4096 + 512}, uint64_t{kPieceBytes}}) {
    Bytes half = random_bytes(random, length);
    std::fill(half.begin() + static_cast<int64_t>(length / 4), half.end(), std::byte{7});
    const std::pair<Bytes, bool> contents[] = {{random_bytes(random, length), false}, {half, true}};
    for (const auto& [content, compresses] : contents) {
      INFO(length << " bytes that " << (compresses ? "compress" : "do not compress"));
      MemoryDevice source(kVolumeBytes);
      MemoryDevice target(kVolumeBytes);
      REQUIRE(source.write(kAt, length, content.data(), {}) == 0);
      const Travelled travelled = read_at(source, kAt, length);
      CHECK(travelled.piece.compressed == compresses);
      CHECK((compresses ? travelled.bytes.size() < length : travelled.bytes == content));
      CHECK(travelled.piece.crc32c == crc32c(travelled.bytes.data(), travelled.bytes.size()));
      REQUIRE(write_sync_piece(target, kAt, static_cast<uint32_t>(length), travelled.piece,
                               travelled.bytes.data())
                  .ok());
      Bytes there(length);
      REQUIRE(target.read(kAt, length, there.data()) == 0);
      CHECK(there == content);
    }
  }
}

TEST_CASE("zeroes do not travel, and a hole is not even read") {
  MemoryDevice device(kVolumeBytes);
  CHECK(read_at(device, 0, kPieceBytes).piece.bytes == 0);

  device.read_error = EIO;
  Bytes into(4096);
  CHECK_FALSE(read_sync_piece(device, 0, into).ok());
  device.is_hole = true;
  CHECK(read_at(device, 0, kPieceBytes).piece.bytes == 0);
}

TEST_CASE("a piece that is not what was sent is refused, and nothing is written") {
  Random random{12};
  Bytes content = random_bytes(random, 8192);
  std::fill(content.begin() + 2048, content.end(), std::byte{7});
  MemoryDevice source(kVolumeBytes);
  REQUIRE(source.write(0, content.size(), content.data(), {}) == 0);
  Travelled sent = read_at(source, 0, content.size());
  REQUIRE(sent.piece.compressed);

  MemoryDevice target(kVolumeBytes);
  bool is_written = false;
  target.before_write = [&] { is_written = true; };
  const auto code_of = [&](uint32_t raw_bytes, const SyncPiece& piece) -> std::string {
    const Outcome written = write_sync_piece(target, 0, raw_bytes, piece, sent.bytes.data());
    return written.ok() ? "" : written.error().code;
  };
  SyncPiece other = sent.piece;
  other.crc32c ^= 1;
  CHECK(code_of(8192, other) == "MESSAGE_INVALID");
  other = sent.piece;
  other.compressed = false;
  CHECK(code_of(8192, other) == "MESSAGE_INVALID");
  for (const uint32_t raw_bytes : {512u, 8191u, 8193u, kPieceBytes, kPieceBytes + 1, ~0u})
    CHECK(code_of(raw_bytes, sent.piece) == "MESSAGE_INVALID");
  // What only looks like LZ4: its checksum is right.
  for (size_t at = 0; at < sent.bytes.size(); at += 97) {
    Travelled bent = sent;
    bent.bytes[at] ^= std::byte{0x5a};
    bent.piece.crc32c = crc32c(bent.bytes.data(), bent.bytes.size());
    CHECK_FALSE(write_sync_piece(target, 0, 4096, bent.piece, bent.bytes.data()).ok());
  }
  CHECK_FALSE(is_written);
  CHECK(code_of(8192, sent.piece).empty());
  CHECK(is_written);
}
