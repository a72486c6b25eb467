#include "front_end_nbd.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "frontend/nbd_server.h"
#include "nbd_raw_client.h"
#include "scratch_files.h"

namespace afterimage {
namespace {

constexpr uint16_t kRead = 0, kWrite = 1, kFlush = 3, kTrim = 4, kWriteZeroes = 6, kFua = 1;
constexpr uint32_t kOptionInfo = 6, kOptionGo = 7, kOptionStructuredReply = 8;

class NbdClient final : public FrontEndClient {
 public:
  /// A modern client uses structured replies and keeps to the block sizes that it asked for.
  NbdClient(RawNbdClient connection, bool is_modern) : nbd_(std::move(connection)), is_modern_(is_modern) {
    nbd_.greet();
    if (is_modern) REQUIRE(nbd_.option(kOptionStructuredReply, {}).back().type == 1);
    learn(nbd_.option(kOptionInfo, info_option("", {3})));
    REQUIRE(nbd_.option(kOptionGo,
                        info_option("", is_modern ? std::vector<uint16_t>{3} : std::vector<uint16_t>{}))
                .back()
                .type == 1);
  }
  uint64_t size() override { return size_; }
  uint32_t block_size() override { return block_size_; }
  uint32_t alignment() override { return is_modern_ ? block_size_ : 1; }

  Errno read(uint64_t offset, Bytes* into) override {
    if (is_modern_) return read_chunks(offset, into);
    const auto length = static_cast<uint32_t>(into->size());
    const Errno error = perform(kRead, 0, offset, length);
    if (error == 0) *into = nbd_.receive(length);
    return error;
  }
  Errno write(uint64_t offset, const Bytes& from) override {
    return perform(kWrite, 0, offset, from.size(), from);
  }
  Errno write_durably(uint64_t offset, const Bytes& from) override {
    return perform(kWrite, kFua, offset, from.size(), from);
  }
  Errno zero(uint64_t offset, uint64_t length) override { return perform(kWriteZeroes, 0, offset, length); }
  Errno trim(uint64_t offset, uint64_t length) override { return perform(kTrim, 0, offset, length); }
  Errno flush() override { return perform(kFlush, 0, 0, 0); }
  void vanish_during_write(uint64_t offset, const Bytes& from,
                           const std::function<void()>& has_arrived) override {
    const auto length = static_cast<uint32_t>(from.size());
    nbd_.request(kWrite, 0, offset, length, from);
    has_arrived();
    nbd_.request(kWrite, 0, offset, length, Bytes(length / 2));  // and half of another
    nbd_.close();
  }

 private:
  void learn(const std::vector<RawNbdClient::OptionReply>& replies) {
    for (const auto& [option, type, data] : replies) {
      if (type != 3) continue;
      const uint64_t kind = number_at(data, 0, 2);
      if (kind == 0) size_ = number_at(data, 2, 8);
      if (kind == 3) block_size_ = static_cast<uint32_t>(number_at(data, 2, 4));
    }
  }
  Errno perform(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length, const Bytes& payload = {}) {
    return static_cast<Errno>(nbd_.perform(type, flags, offset, static_cast<uint32_t>(length), payload));
  }
  Errno read_chunks(uint64_t offset, Bytes* into) {
    nbd_.request(kRead, 0, offset, static_cast<uint32_t>(into->size()));
    uint64_t covered = 0;
    Errno error = 0;
    for (bool is_done = false; !is_done;) {
      const RawNbdClient::Chunk chunk = nbd_.chunk();
      is_done = (chunk.flags & 1) != 0;
      if ((chunk.type & 0x8000) != 0) {
        error = static_cast<Errno>(number_at(chunk.data, 0, 4));
      } else if (chunk.type != 0) {
        const uint64_t at = number_at(chunk.data, 0, 8) - offset;
        const uint64_t length = chunk.type == 2 ? number_at(chunk.data, 8, 4) : chunk.data.size() - 8;
        REQUIRE(at + length <= into->size());
        const auto place = into->begin() + static_cast<ptrdiff_t>(at);
        if (chunk.type == 2) std::fill_n(place, length, std::byte{0});
        if (chunk.type == 1) std::copy(chunk.data.begin() + 8, chunk.data.end(), place);
        covered += length;
      }
    }
    return error == 0 && covered != into->size() ? EIO : error;
  }

  RawNbdClient nbd_;
  const bool is_modern_;
  uint64_t size_ = 0;
  uint32_t block_size_ = 0;
};

class ServedNbd final : public ServedFrontEnd {
 public:
  ServedNbd(const std::shared_ptr<BlockDevice>& device, bool read_only, bool on_tcp) : on_tcp_(on_tcp) {
    NbdServer::Options options;
    if (on_tcp)
      options.tcp_host = "127.0.0.1";
    else
      options.unix_path = path_;
    options.exports = {{"", "", device, read_only}};
    auto server = NbdServer::start(options);
    REQUIRE_MESSAGE(server.ok(), (server.ok() ? "" : server.error().message));
    server_ = std::move(*server);
  }
  std::unique_ptr<FrontEndClient> connect() override {
    return std::make_unique<NbdClient>(on_tcp_ ? RawNbdClient(port()) : RawNbdClient(path_), on_tcp_);
  }
  void stop() override { server_->stop(); }
  std::string remains() override {
    if (!on_tcp_) return std::filesystem::exists(path_) ? path_ : "";
    // A server that listens there now can only be another one if the port is free.
    NbdServer::Options successor;
    successor.tcp_host = "127.0.0.1";
    successor.tcp_port = port();
    return NbdServer::start(successor).ok() ? "" : server_->address();
  }

 private:
  uint16_t port() const {
    const std::string address = server_->address();
    return static_cast<uint16_t>(std::stoul(address.substr(address.rfind(':') + 1)));
  }
  const ScratchDirectory directory_;
  const std::string path_ = directory_.path("socket");
  const bool on_tcp_;
  std::unique_ptr<NbdServer> server_;
};

FrontEnd front_end(const char* name, bool on_tcp) {
  return {.name = name, .serve = [on_tcp](const std::shared_ptr<BlockDevice>& device, bool read_only) {
            return std::make_unique<ServedNbd>(device, read_only, on_tcp);
          }};
}

}  // namespace

FrontEnd nbd_front_end_on_unix_socket() { return front_end("nbd, unix", false); }

FrontEnd nbd_front_end_on_tcp() { return front_end("nbd, tcp", true); }

}  // namespace afterimage
