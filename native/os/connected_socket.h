// What the kernel knows of a connected socket, and Node does not tell.
//
// Threads: any. Ownership: `descriptor` stays the caller's.
#pragma once

#include <sys/types.h>

#include "os/result.h"

namespace afterimage {

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
};

/// Who is at the other end of a Unix socket: who they were when they connected (unix(7), SO_PEERCRED).
/// Errors: IO_ERROR when it is no connected Unix socket.
Result<PeerCredentials> peer_credentials(int descriptor);

/// Whether a TCP connection has ended on both sides, by a reset say (tcp(7), TCP_INFO; RFC 9293, 3.3.2:
/// CLOSED). Errors: IO_ERROR when it is no TCP socket.
Result<bool> is_tcp_closed(int descriptor);

}  // namespace afterimage
