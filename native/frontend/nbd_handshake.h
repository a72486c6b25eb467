// The negotiation of one NBD connection, up to the transmission phase.
//
// Threads: one caller per socket. Ownership: the socket and the exports stay the caller's.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "frontend/nbd_server.h"

namespace afterimage {

/// What client and server agreed on.
struct NbdSession {
  const NbdExport* target;
  bool structured = false;  // structured replies
  bool allocation = false;  // base:allocation was selected for this export
  bool aligned = false;     // the client asked for block sizes, and must keep to them
};

/// Nothing if the client left, broke the protocol, or was not through at `deadline`. Reads not a byte beyond
/// the negotiation, so that requests sent at once after it are left for the transmission phase.
std::optional<NbdSession> negotiate_nbd(int socket, const std::vector<NbdExport>& exports,
                                        std::chrono::steady_clock::time_point deadline);

}  // namespace afterimage
