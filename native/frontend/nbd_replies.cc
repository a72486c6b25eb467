#include "frontend/nbd_replies.h"

#include <sys/socket.h>

#include <cassert>
#include <cerrno>

#include "frontend/nbd_input.h"
#include "frontend/nbd_protocol.h"
#include "os/assert.h"

namespace afterimage {
namespace {

constexpr size_t kPageBytes = 4096;
/// What waits longest must not wait for what is slow: a batch is sent when it is this large or this old.
constexpr size_t kBatchBytesMax = 256 << 10;
constexpr auto kBatchAgeMax = std::chrono::microseconds(50);

}  // namespace

NbdReplies::NbdReplies(int socket, std::span<std::byte> arena) : socket_(socket), arena_(arena) {
  AFTERIMAGE_ASSERT(arena.size() == kNbdPieceBytes, "room for a payload");
}

std::byte* NbdReplies::room(size_t bytes) {
  assert(bytes <= kNbdPieceBytes);
  if (bytes > kNbdPieceBytes - arena_used_) send();
  return broken_ ? nullptr : arena_.data() + arena_used_;
}

bool NbdReplies::simple(uint64_t cookie, Errno error) {
  std::byte* at = headers_.data() + headers_used_;
  at = nbd::store(at, nbd::kSimpleReplyMagic);
  at = nbd::store(at, nbd::wire_error(error));
  return add(nbd::store(at, cookie), nullptr, 0);
}

bool NbdReplies::simple_data(uint64_t cookie, const std::byte* payload, size_t bytes) {
  std::byte* at = headers_.data() + headers_used_;
  at = nbd::store(at, nbd::kSimpleReplyMagic);
  at = nbd::store(at, uint32_t{0});
  return add(nbd::store(at, cookie), payload, bytes);
}

bool NbdReplies::chunk_error(uint64_t cookie, Errno error) {
  std::byte* const at = begin_chunk(cookie, nbd::kChunkError, 6);
  return add(nbd::store(nbd::store(at, nbd::wire_error(error)), uint16_t{0}), nullptr, 0);
}

bool NbdReplies::chunk_none(uint64_t cookie) {
  return add(begin_chunk(cookie, nbd::kChunkNone, 0), nullptr, 0);
}

bool NbdReplies::chunk_data(uint64_t cookie, uint64_t offset, const std::byte* payload, size_t bytes) {
  return add(nbd::store(begin_chunk(cookie, nbd::kChunkOffsetData, 8 + bytes), offset), payload, bytes);
}

bool NbdReplies::chunk_hole(uint64_t cookie, uint64_t offset, uint32_t bytes) {
  return add(nbd::store(nbd::store(begin_chunk(cookie, nbd::kChunkOffsetHole, 12), offset), bytes), nullptr,
             0);
}

bool NbdReplies::chunk_block_status(uint64_t cookie, const std::byte* payload, size_t bytes) {
  return add(begin_chunk(cookie, nbd::kChunkBlockStatus, bytes), payload, bytes);
}

/// Every answer here is one chunk, and so the last of its request too.
std::byte* NbdReplies::begin_chunk(uint64_t cookie, uint16_t type, size_t bytes) {
  std::byte* at = headers_.data() + headers_used_;
  at = nbd::store(at, nbd::kStructuredReplyMagic);
  at = nbd::store(at, nbd::kChunkDone);
  at = nbd::store(at, type);
  at = nbd::store(at, cookie);
  return nbd::store(at, static_cast<uint32_t>(bytes));
}

bool NbdReplies::add(const std::byte* header_end, const std::byte* payload, size_t bytes) {
  const std::byte* const header = headers_.data() + headers_used_;
  append(header, static_cast<size_t>(header_end - header));
  headers_used_ += static_cast<size_t>(header_end - header);
  if (bytes > 0) append(payload, bytes);
  if (payload == arena_.data() + arena_used_)
    arena_used_ +=
        (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;  // the next payload may go to direct I/O
  payload_bytes_ += bytes;
  const Clock::time_point now = Clock::now();
  if (count_++ == 0) oldest_ = now;
  const bool full =
      count_ == kRepliesMax || payload_bytes_ >= kBatchBytesMax || now - oldest_ >= kBatchAgeMax;
  return full ? send() : !broken_;
}

void NbdReplies::append(const std::byte* from, size_t bytes) {
  if (piece_count_ > 0) {
    iovec& last = pieces_[piece_count_ - 1];
    if (static_cast<const std::byte*>(last.iov_base) + last.iov_len == from) {
      last.iov_len += bytes;
      return;
    }
  }
  pieces_[piece_count_++] = {const_cast<std::byte*>(from), bytes};
}

bool NbdReplies::send() {
  msghdr message{};
  message.msg_iov = pieces_.data();
  message.msg_iovlen = piece_count_;
  while (message.msg_iovlen > 0 && !broken_) {
    const ssize_t sent = ::sendmsg(socket_, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      broken_ = errno != EINTR;
      continue;
    }
    for (auto left = static_cast<size_t>(sent); message.msg_iovlen > 0;) {
      iovec& piece = *message.msg_iov;
      if (left < piece.iov_len) {
        piece.iov_base = static_cast<std::byte*>(piece.iov_base) + left;
        piece.iov_len -= left;
        break;
      }
      left -= piece.iov_len;
      ++message.msg_iov;
      --message.msg_iovlen;
    }
  }
  count_ = payload_bytes_ = headers_used_ = piece_count_ = arena_used_ = 0;
  return !broken_;
}

}  // namespace afterimage
