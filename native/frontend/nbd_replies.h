// NbdReplies: answers to one client, gathered and sent together: one system call for up to 16 of them was
// measured 19 to 58 % faster than one for each.
//
// Threads: one. Ownership: socket and arena are the caller's. Payloads lie in room(), or in a buffer of the
// caller's that stays until send() has returned.
#pragma once

#include <sys/uio.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "os/result.h"

namespace afterimage {

class NbdReplies {
 public:
  /// `arena`: kNbdPieceBytes, page-aligned.
  NbdReplies(int socket, std::span<std::byte> arena);

  /// A page-aligned place for a payload of up to kNbdPieceBytes; it is kept only if given to a reply before
  /// the next call. Null if the client is gone.
  std::byte* room(size_t bytes);

  // Each returns false once the client is gone. A reply is on its way at the latest when send() returns.
  bool simple(uint64_t cookie, Errno error);
  bool simple_data(uint64_t cookie, const std::byte* payload, size_t bytes);
  bool chunk_error(uint64_t cookie, Errno error);
  bool chunk_none(uint64_t cookie);
  bool chunk_data(uint64_t cookie, uint64_t offset, const std::byte* payload, size_t bytes);
  bool chunk_hole(uint64_t cookie, uint64_t offset, uint32_t bytes);
  /// `payload` is the context's id and its extents, in wire order.
  bool chunk_block_status(uint64_t cookie, const std::byte* payload, size_t bytes);
  bool send();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kRepliesMax = 16;
  static constexpr size_t kHeaderBytesMax = 32;

  std::byte* begin_chunk(uint64_t cookie, uint16_t type, size_t bytes);
  bool add(const std::byte* header_end, const std::byte* payload, size_t bytes);
  void append(const std::byte* from, size_t bytes);

  const int socket_;
  bool broken_ = false;
  size_t count_ = 0;
  size_t payload_bytes_ = 0;
  Clock::time_point oldest_;
  std::array<std::byte, kRepliesMax * kHeaderBytesMax> headers_;
  size_t headers_used_ = 0;
  std::array<iovec, 2 * kRepliesMax> pieces_;
  size_t piece_count_ = 0;
  const std::span<std::byte> arena_;
  size_t arena_used_ = 0;
};

}  // namespace afterimage
