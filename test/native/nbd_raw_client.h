// A client that says exactly what a test tells it to, right or wrong, and shows the server's answers as they
// come. Written from the protocol's text alone: it shares no code with the server. Waits at most a few
// seconds for an answer, so that a server that hangs fails the test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "os/fd.h"

namespace afterimage {

using Bytes = std::vector<std::byte>;

/// Big-endian bytes, put together in the order of the protocol's tables.
class Wire {
 public:
  Wire& u16(uint16_t value) { return number(value, 2); }
  Wire& u32(uint32_t value) { return number(value, 4); }
  Wire& u64(uint64_t value) { return number(value, 8); }
  Wire& text(const std::string& value);
  Wire& bytes(const Bytes& value);
  operator const Bytes&() const { return data_; }

 private:
  Wire& number(uint64_t value, int bytes);
  Bytes data_;
};

class RawNbdClient {
 public:
  struct OptionReply {
    uint32_t option, type;
    Bytes data;
  };
  struct Chunk {
    uint16_t flags, type;
    uint64_t cookie;
    Bytes data;
  };
  struct SimpleReply {
    uint32_t error;
    uint64_t cookie;
  };

  explicit RawNbdClient(const std::string& socket_path);
  /// To 127.0.0.1.
  explicit RawNbdClient(uint16_t tcp_port);
  /// Over a connection that is there already.
  explicit RawNbdClient(Fd socket) : socket_(std::move(socket)) {}
  int descriptor() const { return socket_.get(); }

  void send(const Bytes& data);
  /// Exactly `length` bytes; fails the test if they do not come.
  Bytes receive(size_t length);
  /// True if the server closes without a further byte.
  bool closed();
  void close() { socket_.reset(); }

  /// Reads the greeting and answers it with `flags`.
  void greet(uint32_t flags = 3);
  /// Sends an option and returns its replies, up to the acknowledgement or an error.
  std::vector<OptionReply> option(uint32_t option, const Bytes& data);
  /// greet(), structured replies and base:allocation if wanted, then GO. Returns the transmission flags.
  uint16_t go(bool structured = false, const std::string& name = "", bool ask_block_sizes = false);

  static Bytes request_bytes(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                             const Bytes& payload, uint64_t cookie);
  void request(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length, const Bytes& payload = {},
               uint64_t cookie = 7) {
    send(request_bytes(type, flags, offset, length, payload, cookie));
  }
  SimpleReply simple_reply();
  Chunk chunk();
  /// request() and the error number of its simple reply.
  uint32_t perform(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                   const Bytes& payload = {});
  /// A plain read without structured replies that is to succeed.
  Bytes read(uint64_t offset, uint32_t length);

 private:
  void connect(int family, const void* address, size_t address_bytes);
  Fd socket_;
};

Bytes info_option(const std::string& name, const std::vector<uint16_t>& wanted);
Bytes context_option(const std::string& name, const std::vector<std::string>& queries);
uint64_t number_at(const Bytes& data, size_t offset, size_t bytes);

}  // namespace afterimage
