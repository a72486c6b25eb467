// NbdServer: serves BlockDevices to NBD clients (the NetworkBlockDevice project's doc/proto.md): fixed
// newstyle, NBD_OPT_GO/INFO/LIST/STRUCTURED_REPLY/SET_META_CONTEXT/LIST_META_CONTEXT/ABORT (EXPORT_NAME too),
// structured replies, FLUSH, FUA, TRIM, WRITE_ZEROES (NO_HOLE, FAST_ZERO), CACHE is not offered,
// base:allocation, block-size constraints, read-only exports, CAN_MULTI_CONN.
//
// Threads: start()/stop()/stats() from one control thread. One thread accepts; each connection has one thread
// that receives, carries the request out inline on the device, and batches replies (up to 16, or until its
// input is empty): measured faster than a worker pool. Nothing calls into JavaScript.
// Ownership: shares the devices until stop() has returned. Buffers are per connection and bounded: about 2
// MiB, and up to kNbdPayloadBytesMax more while a read longer than 1 MiB is answered; a longer payload to be
// written is received and written in pieces of 1 MiB.
//
// A client that connects again, since its connection broke, sends again what was not answered, and then newer
// writes. So a connection carries its first request out only when every older one to the same device whose
// client has ended it (nbd_peer.h) is through with what it had received, however long the backing stalls. Its
// own thread waits, after the handshake: the client sees a slow server, not one that refuses it. Nobody waits
// for a connection whose client is there. A client that has ended what it sends and takes no answers either
// is cut off after kNbdStopSecondsMax.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kNbdPayloadBytesMax = 32u << 20;  // of one request, as clients assume without negotiation
constexpr uint32_t kNbdConnectionsMax = 64;
constexpr uint32_t kNbdHandshakeSecondsMax = 10;  // a client that does not finish negotiating is dropped
constexpr uint32_t kNbdStopSecondsMax = 2;

struct NbdExport {
  std::string name;  // "" is the default export; names are unique per server
  std::string description;
  std::shared_ptr<BlockDevice> device;
  bool read_only = false;
};

class NbdServer {
 public:
  struct Options {
    std::string unix_path;  // either this (created 0600, an existing stale socket is replaced, a live one is
                            // LISTEN_BUSY), removed by stop(); …
    std::string tcp_host;   // … or a numeric address and a port (0: chosen by the kernel)
    uint16_t tcp_port = 0;
    int listening = -1;  // … or, not -1, the socket of a predecessor that listens; stays the caller's
    std::vector<NbdExport> exports;
    uint32_t handshake_seconds = kNbdHandshakeSecondsMax;
  };
  struct Stats {
    uint64_t connections = 0;  // open now
    uint64_t requests = 0;
    uint64_t errors = 0;
  };
  /// Listens: clients can connect, and wait. Errors: LISTEN_BUSY, LISTEN_FAILED.
  static Result<std::unique_ptr<NbdServer>> open(const Options& options);
  /// Serves whoever has connected, and connects. Once. Errors: LISTEN_FAILED.
  Outcome admit();
  /// Both. Errors: theirs.
  static Result<std::unique_ptr<NbdServer>> start(const Options& options);
  ~NbdServer();  // stop()

  /// A copy of the socket that listens, for a successor. Errors: LISTEN_FAILED.
  Result<Fd> listening() const;

  /// "unix:/path" or "tcp:host:port" with the real port.
  std::string address() const;
  Stats stats() const;
  /// Stops accepting, lets each connection finish the requests it has received, closes, joins all threads.
  /// A client that does not take its replies, or waits for an older one's request, is cut off after
  /// kNbdStopSecondsMax.
  void stop();

 private:
  struct State;
  explicit NbdServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace afterimage
