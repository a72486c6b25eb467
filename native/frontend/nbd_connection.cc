#include "frontend/nbd_connection.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "frontend/nbd_peer.h"

namespace afterimage {
namespace {

/// A block status answers for as much as fits; the client asks again for the rest. The device is asked in
/// windows, so that a badly fragmented file cannot fill the memory with extents.
constexpr size_t kExtentsMax = 4096;
constexpr uint64_t kWindowBytes = 64 << 20;

/// Whether its client is there, an overtaken connection asks the kernel before each request, but no more
/// often than this: so it does after every request that was stalled.
constexpr auto kLookInterval = std::chrono::milliseconds(1);

/// The same extents in whole blocks: of a block of which parts differ is said only what is true of all of it.
void round_to_blocks(std::vector<AllocationExtent>* extents, uint64_t block_bytes) {
  std::vector<AllocationExtent> rounded;
  AllocationExtent begun{};  // the block that an extent ended within
  for (AllocationExtent extent : *extents) {
    if (begun.length > 0) {
      const uint64_t rest = std::min(extent.length, block_bytes - begun.length);
      begun = {begun.length + rest, begun.hole && extent.hole, begun.zero && extent.zero};
      extent.length -= rest;
      if (begun.length < block_bytes) continue;
      append_extent(&rounded, begun);
    }
    begun = {extent.length % block_bytes, extent.hole, extent.zero};
    append_extent(&rounded, {extent.length - begun.length, extent.hole, extent.zero});
  }
  append_extent(&rounded, begun);
  extents->swap(rounded);
}

}  // namespace

NbdConnection::NbdConnection(int socket, const NbdSession& session, const std::atomic<bool>& stopping,
                             std::span<std::byte> memory, NbdTraffic* traffic)
    : socket_(socket),
      stopping_(stopping),
      session_(session),
      device_(*session.target->device),
      read_only_(session.target->read_only || device_.read_only()),
      traffic_(traffic),
      input_(socket, stopping, memory.first(kNbdInputBytes)),
      replies_(socket, memory.subspan(kNbdInputBytes)) {}

bool NbdConnection::serve() {
  nbd::Request request{};
  bool has_left = false;
  number_ = newest_ = traffic_->connections.fetch_add(1) + 1;
  while (need_header() && nbd::parse_request(input_.data(), &request)) {
    input_.consume(nbd::kRequestBytes);
    has_left = request.type == nbd::kDisconnect;
    if (has_left || is_overtaken()) break;
    traffic_->requests.fetch_add(1, std::memory_order_relaxed);
    if (!carry_out(request)) break;
  }
  replies_.send();
  return has_left;
}

/// Before the connection waits for its client, the client gets what it may be waiting for.
bool NbdConnection::need_header() {
  return input_.available() >= nbd::kRequestBytes || (replies_.send() && input_.fill_header());
}

bool NbdConnection::need_payload(size_t bytes) {
  return input_.available() >= bytes || (replies_.send() && input_.fill_payload(bytes));
}

/// Whether what is still to be done here may be older than what has been done over a newer connection: there
/// is one, and this one's client is gone.
bool NbdConnection::is_overtaken() {
  const uint64_t newest = traffic_->connections.load();
  if (newest == number_) return false;
  const Clock::time_point now = Clock::now();
  if (newest == newest_ && now - looked_ < kLookInterval) return false;
  newest_ = newest;
  looked_ = now;
  // A server that stops has ended itself what comes from its clients, and carries out what has come.
  return stopping_ ? nbd_peer(socket_) == NbdPeer::kGone : may_be_gone(socket_);
}

bool NbdConnection::carry_out(const nbd::Request& request) {
  const bool syncs = request.type == nbd::kFlush || (request.flags & nbd::kFlagFua) != 0;
  // What is done is answered before something slow begins.
  if ((syncs || request.length > kNbdPieceBytes) && !replies_.send()) return false;
  if (request.type == nbd::kWrite)
    return write(request);  // its payload is to be received even if it is refused
  if (const Errno error = refusal(request)) return answer(request, error);
  switch (request.type) {
    case nbd::kRead:
      return read(request);
    case nbd::kBlockStatus:
      return block_status(request);
    case nbd::kFlush:
      return answer(request, device_.flush());
    default:
      return answer(request, modify(request));
  }
}

Errno NbdConnection::refusal(const nbd::Request& request) const {
  uint16_t flags =
      nbd::kFlagFua;  // is accepted everywhere, though it means something for modifying requests only
  switch (request.type) {
    case nbd::kRead:
      if (session_.structured) flags |= nbd::kFlagDontFragment;
      break;
    case nbd::kWriteZeroes:
      flags |= nbd::kFlagNoHole | nbd::kFlagFastZero;
      break;
    case nbd::kBlockStatus:
      if (!session_.allocation || request.length == 0) return EINVAL;
      flags |= nbd::kFlagRequestOne;
      break;
    case nbd::kWrite:
    case nbd::kTrim:
      break;
    case nbd::kFlush:
      return (request.flags & ~flags) != 0 ? EINVAL : 0;
    default:
      return EINVAL;
  }
  if ((request.flags & ~flags) != 0) return EINVAL;
  const bool has_payload = request.type == nbd::kRead || request.type == nbd::kWrite;
  if (has_payload && request.length > kNbdPayloadBytesMax) return EINVAL;
  const bool modifies = request.type != nbd::kRead && request.type != nbd::kBlockStatus;
  if (modifies && read_only_) return EPERM;
  if (session_.aligned && ((request.offset | request.length) & (device_.block_size() - 1)) != 0)
    return EINVAL;
  const bool grows = request.type == nbd::kWrite || request.type == nbd::kWriteZeroes;
  return check_range(device_.size(), request.offset, request.length, grows ? ENOSPC : EINVAL);
}

Errno NbdConnection::modify(const nbd::Request& request) {
  const RequestOptions options{.fua = (request.flags & nbd::kFlagFua) != 0,
                               .no_hole = (request.flags & nbd::kFlagNoHole) != 0,
                               .fast_only = (request.flags & nbd::kFlagFastZero) != 0};
  return request.type == nbd::kTrim ? device_.trim(request.offset, request.length, options)
                                    : device_.zero(request.offset, request.length, options);
}

bool NbdConnection::write(const nbd::Request& request) {
  const RequestOptions options{.fua = (request.flags & nbd::kFlagFua) != 0};
  Errno error = refusal(request);
  uint64_t offset = request.offset;
  for (uint64_t left = request.length; left > 0;) {
    const uint64_t piece = std::min<uint64_t>(left, kNbdPieceBytes);
    if (!need_payload(piece) || is_overtaken()) return false;
    if (error == 0) error = device_.write(offset, piece, input_.data(), options);
    input_.consume(piece);
    offset += piece;
    left -= piece;
  }
  return answer(request, error);
}

bool NbdConnection::read(const nbd::Request& request) {
  if (request.length > kNbdPieceBytes) return read_long(request);
  std::byte* const into = replies_.room(request.length);
  if (into == nullptr) return false;
  if (const Errno error = device_.read(request.offset, request.length, into)) return answer(request, error);
  return answer_read(request, into);
}

/// Read as a whole before the answer begins, since a simple reply cannot take its success back.
bool NbdConnection::read_long(const nbd::Request& request) {
  struct Free {
    void operator()(std::byte* buffer) const { std::free(buffer); }
  };
  constexpr size_t kPageBytes = 4096;
  const size_t bytes = (request.length + kPageBytes - 1) / kPageBytes * kPageBytes;
  const std::unique_ptr<std::byte, Free> into(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, bytes)));
  if (!into) return answer(request, ENOMEM);
  if (const Errno error = device_.read(request.offset, request.length, into.get()))
    return answer(request, error);
  return answer_read(request, into.get()) && replies_.send();
}

bool NbdConnection::answer_read(const nbd::Request& request, const std::byte* payload) {
  if (!session_.structured) return replies_.simple_data(request.cookie, payload, request.length);
  if (request.length == 0) return replies_.chunk_none(request.cookie);
  // Looking costs next to nothing where there is data, for the first byte mostly tells; where there is none
  // it saves sending it.
  if (is_zero(payload, request.length))
    return replies_.chunk_hole(request.cookie, request.offset, request.length);
  return replies_.chunk_data(request.cookie, request.offset, payload, request.length);
}

Errno NbdConnection::describe(const nbd::Request& request) {
  const bool one = (request.flags & nbd::kFlagRequestOne) != 0;
  extents_.clear();
  for (uint64_t done = 0; done < request.length;) {
    const uint64_t length = std::min(request.length - done, kWindowBytes);
    if (const Errno error = device_.allocation(request.offset + done, length, &window_)) return error;
    // A client that asked for block sizes need not understand smaller pieces.
    if (session_.aligned) round_to_blocks(&window_, device_.block_size());
    for (const AllocationExtent& extent : window_) append_extent(&extents_, extent);
    done += length;
    // The last extent may go on in the next window.
    const size_t wanted = one ? 1 : kExtentsMax;
    if (extents_.size() > wanted) {
      extents_.resize(wanted);
      break;
    }
  }
  return extents_.empty() ? EIO : 0;
}

bool NbdConnection::block_status(const nbd::Request& request) {
  if (const Errno error = describe(request)) return answer(request, error);
  const size_t bytes = sizeof(uint32_t) + extents_.size() * 2 * sizeof(uint32_t);
  std::byte* const payload = replies_.room(bytes);
  if (payload == nullptr) return false;
  std::byte* at = nbd::store(payload, nbd::kAllocationContextId);
  for (const AllocationExtent& extent : extents_) {
    const uint32_t state = (extent.hole ? nbd::kStateHole : 0) | (extent.zero ? nbd::kStateZero : 0);
    at = nbd::store(nbd::store(at, static_cast<uint32_t>(extent.length)), state);
  }
  return replies_.chunk_block_status(request.cookie, payload, bytes);
}

bool NbdConnection::answer(const nbd::Request& request, Errno error) {
  if (error != 0) traffic_->errors.fetch_add(1, std::memory_order_relaxed);
  // Once negotiated, reads and block statuses are answered in structured form only, errors included.
  const bool chunked = request.type == nbd::kRead || request.type == nbd::kBlockStatus;
  if (session_.structured && chunked && error != 0) return replies_.chunk_error(request.cookie, error);
  return replies_.simple(request.cookie, error);
}

}  // namespace afterimage
