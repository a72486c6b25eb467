#include "frontend/nbd_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "frontend/nbd_connection.h"
#include "frontend/nbd_handshake.h"
#include "frontend/nbd_listener.h"
#include "frontend/nbd_peer.h"
#include "os/assert.h"
#include "os/fd.h"
#include "os/io_thread.h"
#include "os/pinned_memory.h"

namespace afterimage {
namespace {

constexpr auto kAcceptPauseMs = 50;  // after accept() failed, for want of descriptors for example
/// How soon one who waits notices that its own client has hung up; what else it waits for wakes it.
constexpr auto kTurnPause = std::chrono::milliseconds(20);

struct Connection {
  Fd socket;
  const BlockDevice* device = nullptr;  // null: it still negotiates, and may come to any
  std::thread thread;
  bool finished = false;  // the thread is about to end, and touches nothing any more
};

}  // namespace

struct NbdServer::State {
  State(const Options& given, NbdListener listening) : options(given), listener(std::move(listening)) {}

  void accept_clients();
  void accept_one();
  void reap();
  void serve(Connection* connection);
  bool await_turn(Connection* connection, const BlockDevice* device);
  void wake() const { ::eventfd_write(waker.get(), 1); }

  Options options;
  std::optional<NbdListener> listener;
  std::string address;
  Fd waker;  // an eventfd: a connection has finished, or the server stops
  std::thread acceptor;
  std::atomic<bool> stopping{false};
  NbdTraffic traffic;

  std::mutex mutex;                   // of what follows
  std::condition_variable ended;      // a connection has
  std::list<Connection> connections;  // the oldest first
  uint64_t live = 0;
};

Result<std::unique_ptr<NbdServer>> NbdServer::open(const Options& options) {
  Result<NbdListener> listener =
      options.listening >= 0      ? NbdListener::adopt(Fd(::fcntl(options.listening, F_DUPFD_CLOEXEC, 0)))
      : options.unix_path.empty() ? NbdListener::listen_tcp(options.tcp_host, options.tcp_port)
                                  : NbdListener::listen_unix(options.unix_path);
  if (!listener.ok()) return listener.error();
  auto state = std::make_unique<State>(options, std::move(*listener));
  state->address = state->listener->address();
  state->waker.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state->waker) return system_error("LISTEN_FAILED", "eventfd", errno);
  return std::unique_ptr<NbdServer>(new NbdServer(std::move(state)));
}

Outcome NbdServer::admit() {
  AFTERIMAGE_ASSERT(!state_->acceptor.joinable() && !state_->stopping, "clients are admitted once");
  try {
    state_->acceptor = std::thread([server = state_.get()] { server->accept_clients(); });
  } catch (const std::system_error& error) {
    return system_error("LISTEN_FAILED", "start a thread", error.code().value());
  }
  return Nothing{};
}

Result<std::unique_ptr<NbdServer>> NbdServer::start(const Options& options) {
  auto server = open(options);
  if (!server.ok()) return server;
  if (const Outcome admitted = (*server)->admit(); !admitted.ok()) return admitted.error();
  return server;
}

Result<Fd> NbdServer::listening() const {
  const int listening = state_->listener ? state_->listener->descriptor() : -1;
  Fd copy(::fcntl(listening, F_DUPFD_CLOEXEC, 0));
  if (!copy) return system_error("LISTEN_FAILED", "another descriptor", errno);
  return copy;
}

NbdServer::NbdServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

NbdServer::~NbdServer() { stop(); }

std::string NbdServer::address() const { return state_->address; }

NbdServer::Stats NbdServer::stats() const {
  const std::lock_guard lock(state_->mutex);
  return {state_->live, state_->traffic.requests, state_->traffic.errors};
}

void NbdServer::State::accept_clients() {
  enter_io_thread("nbd-accept");  // whoever connects is production
  pollfd waiting[] = {{listener->descriptor(), POLLIN, 0}, {waker.get(), POLLIN, 0}};
  while (!stopping) {
    ::poll(waiting, 2, -1);
    eventfd_t unused = 0;
    if ((waiting[1].revents & POLLIN) != 0) ::eventfd_read(waker.get(), &unused);
    reap();
    if (!stopping && (waiting[0].revents & POLLIN) != 0) accept_one();
  }
}

void NbdServer::State::accept_one() {
  Fd socket(::accept4(listener->descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) {
    const bool gone = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (!gone) {
      pollfd waiting{waker.get(), POLLIN, 0};
      ::poll(&waiting, 1, kAcceptPauseMs);
    }
    return;
  }
  const int yes = 1;
  if (listener->is_tcp()) {
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  }
  const std::lock_guard lock(mutex);
  if (live >= kNbdConnectionsMax) return;  // closes it
  Connection& connection = connections.emplace_back();
  connection.socket = std::move(socket);
  try {
    connection.thread = std::thread([this, &connection] { serve(&connection); });
    ++live;
  } catch (const std::system_error&) {
    connections.pop_back();  // no thread to be had: the client is turned away
  }
}

void NbdServer::State::reap() {
  std::list<Connection> finished;
  {
    const std::lock_guard lock(mutex);
    for (auto it = connections.begin(); it != connections.end();) {
      const auto next = std::next(it);
      if (it->finished) finished.splice(finished.end(), connections, it);
      it = next;
    }
  }
  for (Connection& connection : finished) connection.thread.join();
}

void NbdServer::State::serve(Connection* connection) {
  enter_io_thread("nbd-connection");
  const int socket = connection->socket.get();
  try {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(options.handshake_seconds);
    const auto session = negotiate_nbd(socket, options.exports, deadline);
    if (session && await_turn(connection, session->target->device.get())) {
      const auto memory = PinnedMemory::allocate(kNbdConnectionBytes);
      if (memory.ok() && session->target->device->prepare_thread() == 0)
        NbdConnection(socket, *session, stopping, memory->bytes(), &traffic).serve();
    }
  } catch (const std::bad_alloc&) {
    // This client is dropped; the others are served on.
  }
  // The client learns of it now; the descriptor stays until nobody else can use its number any more.
  ::shutdown(socket, SHUT_RDWR);
  {
    const std::lock_guard lock(mutex);
    connection->finished = true;
    --live;
  }
  ended.notify_all();
  wake();
}

/// Until no older connection can still carry out what a client that has left it had sent. False: this one's
/// client has gone too, or a server that stops has cut it off.
bool NbdServer::State::await_turn(Connection* connection, const BlockDevice* device) {
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(kNbdStopSecondsMax);
  std::unique_lock lock(mutex);
  connection->device = device;
  for (;;) {
    const bool is_patient = std::chrono::steady_clock::now() < patience;
    bool waits = false;
    for (const Connection& older : connections) {
      if (&older == connection) break;
      if (older.finished || (older.device != nullptr && older.device != device)) continue;
      if (nbd_peer(older.socket.get()) == NbdPeer::kThere) continue;
      waits = true;
      if (!is_patient) ::shutdown(older.socket.get(), SHUT_RDWR);
    }
    if (!waits) return true;
    if (nbd_peer(connection->socket.get()) == NbdPeer::kGone) return false;
    ended.wait_for(lock, kTurnPause);
  }
}

void NbdServer::stop() {
  State& state = *state_;
  if (state.stopping.exchange(true)) return;
  state.wake();
  if (state.acceptor.joinable()) state.acceptor.join();
  state.listener.reset();
  {
    std::unique_lock lock(state.mutex);
    // What a client has sent by now is still read and carried out; then its connection finds the end.
    for (const Connection& connection : state.connections) ::shutdown(connection.socket.get(), SHUT_RD);
    state.ended.wait_for(lock, std::chrono::seconds(kNbdStopSecondsMax), [&] { return state.live == 0; });
    for (const Connection& connection : state.connections)
      if (!connection.finished) ::shutdown(connection.socket.get(), SHUT_RDWR);
  }
  for (Connection& connection : state.connections) connection.thread.join();
  state.connections.clear();
  state.options.exports.clear();
}

}  // namespace afterimage
