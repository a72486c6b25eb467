#include "frontend/nbd_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

namespace afterimage {
namespace {

constexpr int kBacklog = 64;

Error refused(const std::string& what, Errno error) {
  return system_error(error == EADDRINUSE ? "LISTEN_BUSY" : "LISTEN_FAILED", what, error);
}

/// Removes the socket that a server which is gone has left. A living server's, and anything else, stays.
Outcome remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat node {};
  if (::lstat(path.c_str(), &node) != 0) return Nothing{};
  if (!S_ISSOCK(node.st_mode)) return Error{"LISTEN_FAILED", path + " exists and is not a socket"};
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno != ECONNREFUSED)
    return Error{"LISTEN_BUSY", "another server listens on " + path};
  ::unlink(path.c_str());
  return Nothing{};
}

/// "tcp:host:port", an IPv6 host in brackets, a link-local one with its interface; "" for any other address.
std::string tcp_name(const sockaddr_storage& bound, socklen_t length) {
  if (bound.ss_family != AF_INET6 && bound.ss_family != AF_INET) return "";
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&bound), length, host.data(), host.size(), port.data(),
                    port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "";
  const std::string name = bound.ss_family == AF_INET6 ? std::string("[") + host.data() + "]" : host.data();
  return "tcp:" + name + ":" + port.data();
}

/// The path that the socket is bound to; "": none.
std::string path_of(const sockaddr_storage& bound, socklen_t length) {
  if (bound.ss_family != AF_UNIX || length <= offsetof(sockaddr_un, sun_path)) return "";
  const char* const path = reinterpret_cast<const sockaddr_un&>(bound).sun_path;
  return {path, ::strnlen(path, length - offsetof(sockaddr_un, sun_path))};
}

}  // namespace

NbdListener::NbdListener(Fd socket, std::string address, std::string path)
    : socket_(std::move(socket)), address_(std::move(address)), path_(std::move(path)) {
  struct stat node {};
  if (!path_.empty() && ::lstat(path_.c_str(), &node) == 0) {
    path_device_ = node.st_dev;
    path_inode_ = node.st_ino;
  }
}

NbdListener::~NbdListener() {
  // Only what was made here: somebody may have removed it and put another in its place.
  struct stat node {};
  if (socket_ && !path_.empty() && ::lstat(path_.c_str(), &node) == 0 && node.st_dev == path_device_ &&
      node.st_ino == path_inode_)
    ::unlink(path_.c_str());
}

Result<NbdListener> NbdListener::listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{"LISTEN_FAILED", "the socket's path is longer than " +
                                      std::to_string(sizeof address.sun_path - 1) + " bytes: " + path};
  path.copy(address.sun_path, path.size());
  if (Outcome removed = remove_stale(path, address); !removed.ok()) return removed.error();
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // The mode of the descriptor becomes that of the path, so that nobody can connect in between.
  if (!socket || ::fchmod(socket.get(), 0600) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), kBacklog) != 0)
    return refused("listen on " + path, errno);
  return NbdListener(std::move(socket), "unix:" + path, path);
}

Result<NbdListener> NbdListener::listen_tcp(const std::string& host, uint16_t port) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found);
      error != 0)
    return Error{"LISTEN_FAILED", host + " is not a numeric address: " + ::gai_strerror(error)};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, ::freeaddrinfo);
  Fd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int yes = 1;
  if (!socket || ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0 || ::listen(socket.get(), kBacklog) != 0)
    return refused("listen on " + host + ":" + std::to_string(port), errno);
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    return refused("listen on " + host, errno);
  return NbdListener(std::move(socket), tcp_name(bound, length), "");
}

Result<NbdListener> NbdListener::adopt(Fd socket) {
  int listens = 0;
  socklen_t flag_length = sizeof listens;
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_length) != 0 || listens == 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    return Error{"LISTEN_FAILED", "an inherited socket does not listen"};
  if (std::string name = tcp_name(bound, length); !name.empty())
    return NbdListener(std::move(socket), std::move(name), "");
  const std::string path = path_of(bound, length);
  struct stat node {};
  if (path.empty() || ::lstat(path.c_str(), &node) != 0 || !S_ISSOCK(node.st_mode))
    return Error{"LISTEN_FAILED", "the path of an inherited socket is gone: " + path};
  return NbdListener(std::move(socket), "unix:" + path, path);
}

}  // namespace afterimage
