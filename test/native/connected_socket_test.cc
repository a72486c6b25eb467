#include "os/connected_socket.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "os/fd.h"

using namespace afterimage;

namespace {

struct Pair {
  Fd here;
  Fd there;
};

Pair tcp_pair() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  Pair pair{Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), Fd()};
  REQUIRE(::connect(pair.here.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  pair.there = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(pair.there.get() >= 0);
  return pair;
}

}  // namespace

TEST_CASE("connected socket: a reset is known although nobody reads, and an end of the other side is none") {
  Pair pair = tcp_pair();
  CHECK(*is_tcp_closed(pair.here.get()) == false);
  REQUIRE(::shutdown(pair.there.get(), SHUT_WR) == 0);
  CHECK(*is_tcp_closed(pair.here.get()) == false);
  // Closed with a linger of nothing it is reset (socket(7)).
  const linger none{1, 0};
  REQUIRE(::setsockopt(pair.there.get(), SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0);
  pair.there = Fd();
  CHECK(*is_tcp_closed(pair.here.get()) == true);
  // As a write that finds it, of which Node tells nobody.
  CHECK(::send(pair.here.get(), "x", 1, MSG_NOSIGNAL) < 0);
  CHECK(*is_tcp_closed(pair.here.get()) == true);
}

TEST_CASE("connected socket: who is at the other end") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd here(ends[0]);
  const Fd there(ends[1]);
  const auto peer = peer_credentials(here.get());
  REQUIRE(peer.ok());
  CHECK(peer->pid == ::getpid());
  CHECK(peer->uid == ::getuid());
  CHECK(is_tcp_closed(here.get()).error().code == std::string("IO_ERROR"));
  CHECK(peer_credentials(-1).error().code == std::string("IO_ERROR"));
}
