#include "frontend/nbd_peer.h"

#include <poll.h>
#include <sys/socket.h>

namespace afterimage {
namespace {

bool is_unix(int socket) {
  int domain = -1;
  socklen_t length = sizeof domain;
  return ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

}  // namespace

NbdPeer nbd_peer(int socket) {
  pollfd state{socket, POLLRDHUP, 0};
  if (::poll(&state, 1, 0) <= 0) return NbdPeer::kThere;
  if ((state.revents & (POLLHUP | POLLERR)) != 0) return NbdPeer::kGone;
  return (state.revents & POLLRDHUP) != 0 ? NbdPeer::kEnding : NbdPeer::kThere;
}

bool may_be_gone(int socket) {
  const NbdPeer peer = nbd_peer(socket);
  return peer == NbdPeer::kGone || (peer == NbdPeer::kEnding && !is_unix(socket));
}

}  // namespace afterimage
