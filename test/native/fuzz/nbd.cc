// Structured-random abuse of NbdServer: negotiations and requests that are nearly right, then damaged.
//   fuzz-nbd [--seed N] [--seconds S]
// Prints the seed first and what it reached last. Ends with 0 unless the server crashes (run it under the
// sanitizers), keeps a connection open after its client has sent all it had, writes to a read-only export, or
// fails a well-behaved client; with 2 when too few requests were carried out for that to mean anything.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "device/file_device.h"
#include "frontend/nbd_server.h"
#include "fuzz/fuzz_run.h"
#include "os/fd.h"

namespace afterimage {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kImageBytes = 4 << 20;
constexpr auto kConnectionMax =
    std::chrono::seconds(20);  // a sanitized server on a busy machine is slow, not hung
constexpr int kClients = 3;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t below(uint64_t limit) { return limit == 0 ? 0 : engine_() % limit; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  uint64_t any() { return engine_(); }
  template <typename T, size_t n>
  T of(const std::array<T, n>& values) {
    return values[below(n)];
  }

 private:
  std::mt19937_64 engine_;
};

void put(Bytes& into, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    into.push_back(static_cast<uint8_t>(value >> shift));
}

void put_noise(Bytes& into, uint64_t length, Random& random) {
  while (length-- > 0) into.push_back(static_cast<uint8_t>(random.any()));
}

void put_name(Bytes& into, Random& random) {
  const std::string name = random.of(
      std::array<std::string, 8>{"", "", "", "", "fixed", "fixed", "nothing", std::string(4096, 'x')});
  put(into, random.one_in(20) ? random.any() : name.size(), 4);
  into.insert(into.end(), name.begin(), name.end());
}

Bytes option_data(uint32_t option, Random& random) {
  Bytes data;
  if (random.one_in(8)) {
    put_noise(data, random.below(5000), random);
  } else if (option == 1) {
    if (random.one_in(2)) data = {'f', 'i', 'x', 'e', 'd'};
  } else if (option == 6 || option == 7) {
    put_name(data, random);
    const uint64_t count = random.below(5);
    put(data, random.one_in(20) ? random.any() : count, 2);
    for (uint64_t i = 0; i < count; ++i) put(data, random.below(6), 2);
  } else if (option == 9 || option == 10) {
    put_name(data, random);
    const uint64_t count = random.below(4);
    put(data, random.one_in(20) ? random.any() : count, 4);
    for (uint64_t i = 0; i < count; ++i) {
      const std::string query =
          random.of(std::array<std::string, 4>{"base:allocation", "base:", "", "other:x"});
      put(data, random.one_in(20) ? random.any() : query.size(), 4);
      data.insert(data.end(), query.begin(), query.end());
    }
  }
  return data;
}

void put_option(Bytes& into, uint32_t option, Random& random) {
  const Bytes data = option_data(option, random);
  put(into, random.one_in(50) ? random.any() : 0x49484156454f5054, 8);
  put(into, option, 4);
  put(into, random.one_in(30) ? random.any() : data.size(), 4);
  into.insert(into.end(), data.begin(), data.end());
}

void put_negotiation(Bytes& into, Random& random) {
  put(into, random.one_in(15) ? random.any() : random.of(std::array<uint64_t, 5>{3, 3, 3, 1, 2}), 4);
  const uint64_t options = random.below(6);
  for (uint64_t i = 0; i < options; ++i)
    put_option(into, random.of(std::array<uint32_t, 12>{3, 5, 6, 6, 8, 8, 8, 9, 10, 10, 11, 4711}), random);
  if (!random.one_in(10)) put_option(into, random.of(std::array<uint32_t, 6>{7, 7, 7, 7, 1, 2}), random);
}

void put_request(Bytes& into, Random& random) {
  const auto type = static_cast<uint16_t>(random.one_in(20) ? random.any() : random.below(8));
  if (type == 2 && !random.one_in(10)) return;  // it would end most connections early
  const uint64_t flags = random.one_in(6) ? random.below(32) : random.one_in(20) ? random.any() : 0;
  uint64_t offset = random.below(kImageBytes);
  if (random.one_in(4)) offset = kImageBytes - random.below(8192);
  if (random.one_in(10)) offset = random.any();
  uint64_t length = random.below(random.of(std::array<uint64_t, 5>{16, 4096, 4097, 70000, 1 << 20}));
  if (random.one_in(3)) {
    offset &= ~uint64_t{511};
    length &= ~uint64_t{511};
  }
  if (random.one_in(20)) length = random.one_in(2) ? kImageBytes : random.any();
  put(into, random.one_in(100) ? random.any() : 0x25609513, 4);
  put(into, flags, 2);
  put(into, type, 2);
  put(into, random.any(), 8);
  put(into, offset, 8);
  put(into, length, 4);
  if (type == 1 && length <= kImageBytes)
    into.insert(into.end(), random.one_in(30) ? length / 2 : length, 0xa5);
}

void damage(Bytes& bytes, Random& random) {
  const uint64_t wounds = random.below(4);
  for (uint64_t i = 0; i < wounds && !bytes.empty(); ++i) {
    // Mostly near the front: that is where the structure is.
    const uint64_t at = random.below(random.one_in(2) ? bytes.size() : std::min<uint64_t>(bytes.size(), 200));
    const auto place = bytes.begin() + static_cast<ptrdiff_t>(at);
    const auto behind =
        place + static_cast<ptrdiff_t>(random.below(std::min<uint64_t>(bytes.size() - at, 64)));
    switch (random.below(4)) {
      case 0:
        *place ^= static_cast<uint8_t>(1u << random.below(8));
        break;
      case 1:
        bytes.erase(place, behind);
        break;
      case 2: {
        const Bytes again(place, behind);
        bytes.insert(place, again.begin(), again.end());
        break;
      }
      default:
        bytes.erase(behind, bytes.end());
    }
  }
}

class Abuse {
 public:
  Abuse(std::string socket_path, const test::FuzzRun& run) : path_(std::move(socket_path)), run_(run) {}

  void run_client(int number) {
    Random random(run_.seed() + static_cast<uint64_t>(number));
    while (!run_.is_over() && !failed()) {
      Bytes bytes;
      put_negotiation(bytes, random);
      const uint64_t requests = random.below(40);
      for (uint64_t i = 0; i < requests; ++i) put_request(bytes, random);
      if (random.one_in(3)) damage(bytes, random);
      converse(bytes, random);
      ++connections_;
    }
  }

  /// A client without fault must be served whatever the others do. Returns false if it is not.
  bool well_behaved_client_is_served() {
    const Fd socket = dial();
    Bytes bytes;
    put(bytes, 3, 4);
    put(bytes, 0x49484156454f5054, 8);
    put(bytes, 7, 4);
    put(bytes, 11, 4);
    put(bytes, 5, 4);
    for (const char c : {'f', 'i', 'x', 'e', 'd'}) bytes.push_back(static_cast<uint8_t>(c));
    put(bytes, 0, 2);
    put(bytes, 0x25609513, 4);
    put(bytes, 0, 4);
    put(bytes, 77, 8);
    put(bytes, 0, 8);
    put(bytes, 512, 4);
    const Bytes answer = talk(socket.get(), bytes, SIZE_MAX);
    const size_t negotiation = 18 + 20 + 12 + 20;
    if (answer.size() != negotiation + 16 + 512) return false;
    for (size_t i = negotiation + 16; i < answer.size(); ++i)
      if (answer[i] != 0x33) return false;
    return true;
  }

  void fail(const char* what) { failure_ = what; }
  const char* failure() const { return failure_; }
  bool failed() const { return failure_ != nullptr; }
  uint64_t connections() const { return connections_; }
  uint64_t bytes_back() const { return bytes_back_; }

 private:
  Fd dial() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      socket.reset();
    return socket;
  }

  void converse(const Bytes& bytes, Random& random) {
    const Fd socket = dial();
    if (!socket) return fail("the server does not accept connections");
    // Some clients leave before they have read all.
    const size_t patience = random.one_in(5) ? random.below(4096) : SIZE_MAX;
    bytes_back_ += talk(socket.get(), bytes, patience).size();
  }

  /// Sends all, then says that no more comes, and reads until the server closes or `patience` bytes have
  /// come.
  Bytes talk(int socket, const Bytes& bytes, size_t patience) {
    const Clock::time_point limit = Clock::now() + kConnectionMax;
    Bytes answer;
    std::array<uint8_t, 65536> buffer;
    size_t sent = 0;
    bool said_all = false;
    while (answer.size() < patience) {
      if (Clock::now() > limit) {
        fail("a connection did not end");
        break;
      }
      if (!said_all && sent == bytes.size()) {
        ::shutdown(socket, SHUT_WR);
        said_all = true;
      }
      pollfd waiting{socket, static_cast<short>(said_all ? POLLIN : POLLIN | POLLOUT), 0};
      if (::poll(&waiting, 1, 1000) <= 0) continue;
      if ((waiting.revents & POLLOUT) != 0) {
        const ssize_t count =
            ::send(socket, bytes.data() + sent, bytes.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count > 0) sent += static_cast<size_t>(count);
        if (count < 0 && errno != EAGAIN) sent = bytes.size();  // dropped by the server, as it may
      }
      if ((waiting.revents & ~POLLOUT) != 0) {
        const ssize_t count = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN)) break;
        if (count > 0) answer.insert(answer.end(), buffer.begin(), buffer.begin() + count);
      }
    }
    return answer;
  }

  const std::string path_;
  const test::FuzzRun& run_;
  std::atomic<const char*> failure_{nullptr};
  std::atomic<uint64_t> connections_{0};
  std::atomic<uint64_t> bytes_back_{0};
};

std::string make_image(const std::string& directory, const char* name, uint8_t content) {
  const std::string path = directory + "/" + name;
  const Fd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  const Bytes bytes(kImageBytes, content);
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::exit(2);
  return path;
}

std::shared_ptr<BlockDevice> open_image(const std::string& path) {
  auto device = FileDevice::open(path, {});
  if (!device.ok()) std::exit(2);
  return std::move(*device);
}

int abuse_server(test::FuzzRun* run, const std::string& directory) {
  const std::shared_ptr<BlockDevice> fixed = open_image(make_image(directory, "fixed", 0x33));
  NbdServer::Options options;
  options.unix_path = directory + "/socket";
  options.handshake_seconds = 2;
  const std::shared_ptr<BlockDevice> image = open_image(make_image(directory, "image", 0));
  options.exports = {{"", "", image, false}, {"fixed", "", fixed, true}};
  auto server = NbdServer::start(options);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.error().message.c_str());
    return 2;
  }
  Abuse abuse(options.unix_path, *run);
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) clients.emplace_back([&abuse, i] { abuse.run_client(i); });
  for (std::thread& client : clients) client.join();
  if (!abuse.failed() && !abuse.well_behaved_client_is_served())
    abuse.fail("a well-behaved client was not served");
  const NbdServer::Stats stats = (*server)->stats();
  (*server)->stop();
  Bytes content(kImageBytes);
  if (fixed->read(0, kImageBytes, reinterpret_cast<std::byte*>(content.data())) != 0 ||
      content != Bytes(kImageBytes, 0x33))
    abuse.fail("a read-only export was written to");
  const uint64_t connections = abuse.connections();
  std::printf("fuzz nbd: %llu connections, %s\n", static_cast<unsigned long long>(connections),
              abuse.failed() ? abuse.failure() : "no finding");
  if (abuse.failed()) return 1;
  // A connection brings up to 40 requests; a third of them are damaged, and the first wound ends most of
  // those.
  run->expect("requests carried out", stats.requests - stats.errors, connections, 4);
  run->expect("requests refused", stats.errors, connections, 10);
  run->expect("bytes back", abuse.bytes_back(), connections, 1);
  const bool is_written = image->read(0, kImageBytes, reinterpret_cast<std::byte*>(content.data())) == 0 &&
                          std::find(content.begin(), content.end(), uint8_t{0xa5}) != content.end();
  run->expect("writable export with bytes of the clients", is_written ? 1 : 0, 1, 1);
  return run->exit_status();
}

}  // namespace
}  // namespace afterimage

int main(int argc, char** argv) {
  afterimage::test::FuzzRun run("nbd", argc, argv);
  std::string directory = (std::filesystem::temp_directory_path() / "afterimage-fuzz-XXXXXX").string();
  if (::mkdtemp(directory.data()) == nullptr) return 2;
  const int result = afterimage::abuse_server(&run, directory);
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  return result;
}
