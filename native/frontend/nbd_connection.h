// NbdConnection: the transmission phase of one NBD connection: receives requests, carries each out inline on
// the device, answers in batches.
//
// What a client that is gone had sent must not land over what it has written since, over a newer connection:
// once there is one, a connection whose client has hung up begins no further request, whatever it has
// received. The server (nbd_server.h) lets none begin before those whose clients were gone by then have
// ended.
//
// Threads: serve() on the connection's own thread. Ownership: socket, export and memory (of its buffers) stay
// the caller's; a read longer than kNbdPieceBytes is answered from a buffer of its own, which may fail with
// ENOMEM.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "device/block_device.h"
#include "frontend/nbd_handshake.h"
#include "frontend/nbd_input.h"
#include "frontend/nbd_protocol.h"
#include "frontend/nbd_replies.h"

namespace afterimage {

/// What a server's connections have carried out, together.
struct NbdTraffic {
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<uint64_t> connections{0};  // that have begun to carry requests out
};

constexpr size_t kNbdConnectionBytes = kNbdInputBytes + kNbdPieceBytes;

class NbdConnection {
 public:
  /// `memory`: kNbdConnectionBytes, page-aligned.
  NbdConnection(int socket, const NbdSession& session, const std::atomic<bool>& stopping,
                std::span<std::byte> memory, NbdTraffic* traffic);
  /// Returns when the client has gone or broken the protocol, or the server stops. True: it has taken its
  /// leave. Once.
  bool serve();

 private:
  // Each carries a request out and answers it; false once the connection cannot go on.
  bool carry_out(const nbd::Request& request);
  bool read(const nbd::Request& request);
  bool read_long(const nbd::Request& request);
  bool write(const nbd::Request& request);
  bool block_status(const nbd::Request& request);

  /// The errno for a request that is wrong whatever the device holds, or 0.
  Errno refusal(const nbd::Request& request) const;
  Errno modify(const nbd::Request& request);
  Errno describe(const nbd::Request& request);
  bool answer(const nbd::Request& request, Errno error);
  bool answer_read(const nbd::Request& request, const std::byte* payload);
  bool need_header();
  bool need_payload(size_t bytes);
  bool is_overtaken();

  using Clock = std::chrono::steady_clock;
  const int socket_;
  const std::atomic<bool>& stopping_;
  const NbdSession session_;
  BlockDevice& device_;
  const bool read_only_;
  NbdTraffic* const traffic_;
  uint64_t newest_ = 0;  // of the server's connections, when this one last looked whether its client is there
  uint64_t number_ = 0;  // of this one among them
  Clock::time_point looked_;
  NbdInput input_;
  NbdReplies replies_;
  std::vector<AllocationExtent> extents_;  // of the block status being answered
  std::vector<AllocationExtent> window_;
};

}  // namespace afterimage
