// NbdDeviceServer, with the test in the place of the kernel's driver: it takes the sockets that it is
// offered, or not. The driver itself: test/vm.
#include "frontend/nbd_device_server.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <chrono>
#include <deque>
#include <future>
#include <optional>

#include "memory_device.h"
#include "nbd_raw_client.h"

namespace afterimage {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kBytes = 1 << 20;
constexpr uint16_t kRead = 0, kWrite = 1, kDisconnect = 2, kFlush = 3;
constexpr auto kPatience = 8s;
/// Long enough that what is not held back would have happened.
constexpr auto kMoment = 200ms;

struct Offered {
  Fd socket;
  uint32_t timeout_seconds;
};

/// Answers offers with what the test says, and keeps a copy of each socket.
class Driver {
 public:
  NbdDeviceServer::Offer offer() {
    return [this](int socket, uint32_t timeout_seconds) {
      const std::lock_guard lock(mutex_);
      ++count_;
      if (answer == 0) offered_.push_back({Fd(::fcntl(socket, F_DUPFD_CLOEXEC, 0)), timeout_seconds});
      changed_.notify_all();
      return answer.load();
    };
  }
  /// The next socket; fails the test if none is offered.
  Offered take() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, kPatience, [this] { return !offered_.empty(); }));
    Offered offered = std::move(offered_.front());
    offered_.pop_front();
    return offered;
  }
  bool is_offered_within(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [this] { return !offered_.empty(); });
  }
  void await_offers(int count) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, kPatience, [&] { return count_ >= count; }));
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  std::atomic<Errno> answer{0};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Offered> offered_;
  int count_ = 0;
};

std::unique_ptr<NbdDeviceServer> serve(std::shared_ptr<BlockDevice> device, Driver* driver,
                                       Fd socket = Fd()) {
  auto server = NbdDeviceServer::start(std::move(device), std::move(socket), driver->offer());
  REQUIRE(server.ok());
  return std::move(*server);
}

Bytes filled(size_t bytes, int value) { return {bytes, static_cast<std::byte>(value)}; }

}  // namespace

TEST_CASE("an nbd device is served over a socket pair, without a handshake") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  Driver driver;
  std::array<int, 2> pair{-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
  const auto server = serve(device, &driver, Fd(pair[0]));
  RawNbdClient client{Fd(pair[1])};
  CHECK(client.perform(kWrite, 0, 4096, 4096, filled(4096, 5)) == 0);
  CHECK(client.read(4096, 4096) == filled(4096, 5));
  CHECK(client.perform(kFlush, 0, 0, 0) == 0);
  CHECK(device->flushes == 1);
  CHECK(client.perform(kWrite, 0, kBytes, 512, filled(512, 1)) == 28);
  CHECK(driver.count() == 0);
}

// A write that stalls on the backing until the driver gives up waiting, sends it again, acknowledges it, and
// then acknowledges a newer one of the same place: the stalled one would land over that.
TEST_CASE("the driver is offered no connection before all that the dead one had sent is done") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  std::promise<void> begun, go_on;
  bool first = true;
  device->before_write = [&] {
    if (!std::exchange(first, false)) return;
    begun.set_value();
    go_on.get_future().wait();
  };
  Driver driver;
  const auto server = serve(device, &driver);
  {
    RawNbdClient stalled(driver.take().socket);
    stalled.request(kWrite, 0, 0, 512, filled(512, 1));
    begun.get_future().wait();
  }
  CHECK_FALSE(driver.is_offered_within(kMoment));
  CHECK(device->content()[0] == std::byte{0});
  go_on.set_value();
  RawNbdClient again(driver.take().socket);
  CHECK(device->content()[0] == std::byte{1});
  CHECK(again.perform(kWrite, 0, 0, 512, filled(512, 2)) == 0);
  CHECK(again.read(0, 512) == filled(512, 2));
}

TEST_CASE("a backing that is too slow for the driver is given twice the time") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  Driver driver;
  const auto server = serve(device, &driver);
  for (uint32_t seconds = kNbdTimeoutSecondsMin; seconds < kNbdTimeoutSecondsMax; seconds *= 2) {
    Offered offered = driver.take();
    CHECK(offered.timeout_seconds == seconds);
    RawNbdClient(std::move(offered.socket)).read(0, 512);
  }
  RawNbdClient(driver.take().socket).read(0, 512);
  CHECK(driver.take().timeout_seconds == kNbdTimeoutSecondsMax);
}

TEST_CASE("a socket that the driver has not taken is followed by another, with the same time") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  Driver driver;
  const auto server = serve(device, &driver);
  for (int i = 0; i < 5; ++i) CHECK(driver.take().timeout_seconds == kNbdTimeoutSecondsMin);
  RawNbdClient client(driver.take().socket);
  CHECK(client.read(0, 512) == filled(512, 0));
}

TEST_CASE("while the driver cannot take a socket it is asked again") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  Driver driver;
  driver.answer = EAGAIN;
  const auto server = serve(device, &driver);
  driver.await_offers(3);
  driver.answer = 0;
  RawNbdClient client(driver.take().socket);
  CHECK(client.read(0, 512) == filled(512, 0));
}

TEST_CASE("a device that is detached is offered nothing any more") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  Driver driver;
  SUBCASE("it takes its leave") {
    const auto server = serve(device, &driver);
    RawNbdClient client(driver.take().socket);
    client.request(kDisconnect, 0, 0, 0);
    CHECK(client.closed());
    CHECK_FALSE(driver.is_offered_within(kMoment));
  }
  SUBCASE("it is gone") {
    const auto server = serve(device, &driver);
    Offered offered = driver.take();
    driver.answer = ENODEV;
    offered.socket.reset();
    driver.await_offers(2);
    CHECK_FALSE(driver.is_offered_within(kMoment));
    CHECK(driver.count() == 2);
  }
}

TEST_CASE("stopping ends whatever the server waits for") {
  auto device = std::make_shared<MemoryDevice>(kBytes);
  Driver driver;
  std::optional<RawNbdClient> client;
  SUBCASE("a request") {
    const auto server = serve(device, &driver);
    client.emplace(driver.take().socket);
    CHECK(client->read(0, 512) == filled(512, 0));
    server->stop();
    CHECK(client->closed());
  }
  SUBCASE("a driver that cannot") {
    driver.answer = EAGAIN;
    const auto server = serve(device, &driver);
    driver.await_offers(2);
    server->stop();
    const int offers = driver.count();
    CHECK_FALSE(driver.is_offered_within(kMoment));
    CHECK(driver.count() == offers);
  }
}

}  // namespace afterimage
