// Who is at the other end of a Unix socket, as the kernel knows it (unix(7), SO_PEERCRED): who they were when
// they connected.
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

/// Errors: IO_ERROR when it is no connected Unix socket.
Result<PeerCredentials> peer_credentials(int descriptor);

}  // namespace afterimage
