#include "os/peer_credentials.h"

#include <sys/socket.h>

#include <cerrno>

namespace afterimage {

Result<PeerCredentials> peer_credentials(int descriptor) {
  ucred found{};
  socklen_t length = sizeof(found);
  if (::getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &found, &length) != 0)
    return system_error("IO_ERROR", "SO_PEERCRED", errno);
  return PeerCredentials{found.pid, found.uid};
}

}  // namespace afterimage
