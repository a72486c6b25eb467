#include "nbd_raw_client.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace afterimage {
namespace {

constexpr int kPatienceMs = 8000;
constexpr uint64_t kServerMagic = 0x4e42444d41474943;
constexpr uint64_t kOptionMagic = 0x49484156454f5054;
constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

}  // namespace

Wire& Wire::number(uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    data_.push_back(static_cast<std::byte>(value >> shift));
  return *this;
}

Wire& Wire::text(const std::string& value) {
  for (const char c : value) data_.push_back(static_cast<std::byte>(c));
  return *this;
}

Wire& Wire::bytes(const Bytes& value) {
  data_.insert(data_.end(), value.begin(), value.end());
  return *this;
}

uint64_t number_at(const Bytes& data, size_t offset, size_t bytes) {
  REQUIRE(offset + bytes <= data.size());
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | std::to_integer<uint64_t>(data[offset + i]);
  return value;
}

Bytes info_option(const std::string& name, const std::vector<uint16_t>& wanted) {
  Wire data;
  data.u32(static_cast<uint32_t>(name.size())).text(name).u16(static_cast<uint16_t>(wanted.size()));
  for (const uint16_t kind : wanted) data.u16(kind);
  return data;
}

Bytes context_option(const std::string& name, const std::vector<std::string>& queries) {
  Wire data;
  data.u32(static_cast<uint32_t>(name.size())).text(name).u32(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries) data.u32(static_cast<uint32_t>(query.size())).text(query);
  return data;
}

RawNbdClient::RawNbdClient(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(socket_path.size() < sizeof address.sun_path);
  socket_path.copy(address.sun_path, socket_path.size());
  connect(AF_UNIX, &address, sizeof address);
}

RawNbdClient::RawNbdClient(uint16_t tcp_port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(tcp_port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  connect(AF_INET, &address, sizeof address);
}

void RawNbdClient::connect(int family, const void* address, size_t address_bytes) {
  socket_.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{kPatienceMs / 1000, 0};
  REQUIRE(::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0);
  REQUIRE(::connect(socket_.get(), static_cast<const sockaddr*>(address),
                    static_cast<socklen_t>(address_bytes)) == 0);
}

void RawNbdClient::send(const Bytes& data) {
  for (size_t done = 0; done < data.size();) {
    const ssize_t count = ::send(socket_.get(), data.data() + done, data.size() - done, MSG_NOSIGNAL);
    REQUIRE(count > 0);
    done += static_cast<size_t>(count);
  }
}

Bytes RawNbdClient::receive(size_t length) {
  Bytes data(length);
  for (size_t done = 0; done < length;) {
    pollfd waiting{socket_.get(), POLLIN, 0};
    REQUIRE_MESSAGE(::poll(&waiting, 1, kPatienceMs) == 1, "the server does not answer");
    const ssize_t count = ::recv(socket_.get(), data.data() + done, length - done, 0);
    REQUIRE_MESSAGE(count > 0, "the server has closed the connection");
    done += static_cast<size_t>(count);
  }
  return data;
}

bool RawNbdClient::closed() {
  pollfd waiting{socket_.get(), POLLIN, 0};
  std::byte unused;
  return ::poll(&waiting, 1, kPatienceMs) == 1 && ::recv(socket_.get(), &unused, 1, 0) <= 0;
}

void RawNbdClient::greet(uint32_t flags) {
  const Bytes greeting = receive(18);
  CHECK(number_at(greeting, 0, 8) == kServerMagic);
  CHECK(number_at(greeting, 8, 8) == kOptionMagic);
  CHECK(number_at(greeting, 16, 2) == 3);
  send(Wire().u32(flags));
}

std::vector<RawNbdClient::OptionReply> RawNbdClient::option(uint32_t option, const Bytes& data) {
  send(Wire().u64(kOptionMagic).u32(option).u32(static_cast<uint32_t>(data.size())).bytes(data));
  std::vector<OptionReply> replies;
  do {
    const Bytes header = receive(20);
    CHECK(number_at(header, 0, 8) == kOptionReplyMagic);
    const auto length = static_cast<size_t>(number_at(header, 16, 4));
    replies.push_back({static_cast<uint32_t>(number_at(header, 8, 4)),
                       static_cast<uint32_t>(number_at(header, 12, 4)), receive(length)});
    CHECK(replies.back().option == option);
  } while (replies.back().type != 1 && replies.back().type < 0x80000000);
  return replies;
}

uint16_t RawNbdClient::go(bool structured, const std::string& name, bool ask_block_sizes) {
  greet();
  if (structured) {
    REQUIRE(option(8, {}).back().type == 1);
    REQUIRE(option(10, context_option(name, {"base:allocation"})).back().type == 1);
  }
  const auto replies =
      option(7, info_option(name, ask_block_sizes ? std::vector<uint16_t>{3} : std::vector<uint16_t>{}));
  REQUIRE(replies.back().type == 1);
  for (const OptionReply& reply : replies)
    if (reply.type == 3 && number_at(reply.data, 0, 2) == 0)
      return static_cast<uint16_t>(number_at(reply.data, 10, 2));
  FAIL("GO without NBD_INFO_EXPORT");
  return 0;
}

Bytes RawNbdClient::request_bytes(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                                  const Bytes& payload, uint64_t cookie) {
  return Wire().u32(0x25609513).u16(flags).u16(type).u64(cookie).u64(offset).u32(length).bytes(payload);
}

RawNbdClient::SimpleReply RawNbdClient::simple_reply() {
  const Bytes reply = receive(16);
  REQUIRE(number_at(reply, 0, 4) == 0x67446698);
  return {static_cast<uint32_t>(number_at(reply, 4, 4)), number_at(reply, 8, 8)};
}

RawNbdClient::Chunk RawNbdClient::chunk() {
  const Bytes header = receive(20);
  REQUIRE(number_at(header, 0, 4) == 0x668e33ef);
  return {static_cast<uint16_t>(number_at(header, 4, 2)), static_cast<uint16_t>(number_at(header, 6, 2)),
          number_at(header, 8, 8), receive(static_cast<size_t>(number_at(header, 16, 4)))};
}

uint32_t RawNbdClient::perform(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                               const Bytes& payload) {
  request(type, flags, offset, length, payload, offset + length);
  const SimpleReply reply = simple_reply();
  CHECK(reply.cookie == offset + length);
  return reply.error;
}

Bytes RawNbdClient::read(uint64_t offset, uint32_t length) {
  CHECK(perform(0, 0, offset, length) == 0);
  return receive(length);
}

}  // namespace afterimage
