#include "frontend/nbd_device_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <new>
#include <system_error>
#include <utility>

#include "os/io_thread.h"

namespace afterimage {
namespace {

/// The driver hears of the end of a connection a moment later than its server.
constexpr std::chrono::milliseconds kRetryPause{20};

}  // namespace

Result<std::unique_ptr<NbdDeviceServer>> NbdDeviceServer::start(std::shared_ptr<BlockDevice> device,
                                                                Fd socket, Offer offer) {
  auto memory = PinnedMemory::allocate(kNbdConnectionBytes);
  if (!memory.ok()) return memory.error();
  std::unique_ptr<NbdDeviceServer> server(
      new NbdDeviceServer(std::move(device), std::move(socket), std::move(offer), std::move(*memory)));
  try {
    server->thread_ = std::thread([raw = server.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return system_error("NBD_ATTACH", "start a thread", error.code().value());
  }
  return server;
}

NbdDeviceServer::NbdDeviceServer(std::shared_ptr<BlockDevice> device, Fd socket, Offer offer,
                                 PinnedMemory memory)
    : export_{.name = "", .description = "", .device = std::move(device), .read_only = false},
      offer_(std::move(offer)),
      memory_(std::move(memory)),
      socket_(std::move(socket)) {}

NbdDeviceServer::~NbdDeviceServer() { stop(); }

void NbdDeviceServer::run() {
  enter_io_thread("nbd-device");
  while (export_.device->prepare_thread() != 0) {
    std::unique_lock lock(mutex_);
    if (stopped_.wait_for(lock, kRetryPause, [this] { return stopping_.load(); })) return;
  }
  while (!stopping_) {
    if (!renew()) return;
    if (serve()) return;
  }
}

/// Until there is a connection. False: none is wanted any more.
bool NbdDeviceServer::renew() {
  while (!socket_) {
    std::array<int, 2> pair{-1, -1};
    Errno error = ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0 ? 0 : errno;
    Fd ours(pair[0]);
    const Fd drivers(pair[1]);
    if (error == 0) error = offer_(drivers.get(), timeout_seconds_);
    if (error == ENODEV) return false;
    std::unique_lock lock(mutex_);
    if (stopping_) return false;
    if (error == 0)
      socket_ = std::move(ours);
    else if (stopped_.wait_for(lock, kRetryPause, [this] { return stopping_.load(); }))
      return false;
  }
  return true;
}

/// Until the connection is dead; all that it had sent is done then. True: the driver has detached the device.
bool NbdDeviceServer::serve() {
  const uint64_t requests_before = traffic_.requests;
  bool has_left = false;
  try {
    const NbdSession session{.target = &export_};
    has_left = NbdConnection(socket_.get(), session, stopping_, memory_.bytes(), &traffic_).serve();
  } catch (const std::bad_alloc&) {
    // As if the connection were dead: what was not answered comes again.
  }
  std::unique_lock lock(mutex_);
  socket_.reset();
  if (traffic_.requests != requests_before)
    timeout_seconds_ = std::min(2 * timeout_seconds_, kNbdTimeoutSecondsMax);
  else if (!has_left)
    stopped_.wait_for(lock, kRetryPause, [this] { return stopping_.load(); });  // it was not taken
  return has_left;
}

void NbdDeviceServer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace afterimage
