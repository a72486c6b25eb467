#include "os/connected_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
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

Result<bool> is_tcp_closed(int descriptor) {
  tcp_info found{};
  socklen_t length = sizeof(found);
  if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &found, &length) != 0)
    return system_error("IO_ERROR", "TCP_INFO", errno);
  return found.tcpi_state == TCP_CLOSE;
}

}  // namespace afterimage
