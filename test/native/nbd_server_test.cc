// NbdServer against the rules of the protocol, over a real FileDevice, with a client that breaks them at
// will. nbd_programs_test.cc has the clients that other people wrote.
#include "frontend/nbd_server.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <list>
#include <thread>

#include "device/file_device.h"
#include "memory_device.h"
#include "nbd_raw_client.h"
#include "prerequisite.h"
#include "scratch_files.h"

namespace afterimage {
namespace {

constexpr uint64_t kBytes = 8 << 20;
constexpr uint16_t kRead = 0, kWrite = 1, kDisconnect = 2, kFlush = 3, kTrim = 4, kCache = 5,
                   kWriteZeroes = 6, kBlockStatus = 7;
constexpr uint16_t kFua = 1, kNoHole = 2, kDontFragment = 4, kRequestOne = 8, kFastZero = 16;
constexpr uint32_t kErrorPerm = 1, kErrorInval = 22, kErrorNoSpc = 28, kErrorNotSup = 95;

std::shared_ptr<BlockDevice> open_device(const std::string& path) {
  auto device = FileDevice::open(path, {});
  REQUIRE_MESSAGE(device.ok(), (device.ok() ? "" : device.error().message));
  return std::move(*device);
}

std::unique_ptr<NbdServer> serve(NbdServer::Options options) {
  auto server = NbdServer::start(options);
  REQUIRE_MESSAGE(server.ok(), (server.ok() ? "" : server.error().message));
  return std::move(*server);
}

/// A server over a file of kBytes: the export "" may be written, "fixed" may not.
struct Served {
  explicit Served(const std::string& file = "")
      : image(file.empty() ? directory.make_file("image", kBytes) : file), device(open_device(image)) {
    NbdServer::Options options;
    options.unix_path = socket;
    options.handshake_seconds = 1;
    options.exports = {{"", "the volume", device, false}, {"fixed", "", device, true}};
    server = serve(options);
  }
  Bytes content(uint64_t offset, uint64_t length) const {
    Bytes bytes(length);
    REQUIRE(device->read(offset, length, bytes.data()) == 0);
    return bytes;
  }
  const ScratchDirectory directory;
  const std::string image;
  const std::string socket = directory.path("socket");
  std::shared_ptr<BlockDevice> device;
  std::unique_ptr<NbdServer> server;
};

/// Ten blocks of 4096 bytes whose holes begin and end within them, as those of a point do. Cannot be read.
class PatchyDevice final : public BlockDevice {
 public:
  uint64_t size() const override { return uint64_t{10} * 4096; }
  uint32_t block_size() const override { return 4096; }
  bool read_only() const override { return true; }
  Errno read(uint64_t, uint64_t, std::byte*) override { return EIO; }
  Errno write(uint64_t, uint64_t, const std::byte*, const RequestOptions&) override { return EPERM; }
  Errno zero(uint64_t, uint64_t, const RequestOptions&) override { return EPERM; }
  Errno trim(uint64_t, uint64_t, const RequestOptions&) override { return EPERM; }
  Errno flush() override { return 0; }
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override {
    extents->clear();
    for (uint64_t at = offset; at < offset + length; at += 512) {
      // Block 0 begins with data; 3 has some in its middle; so has 4, twice.
      const bool is_data = at == 0 || at == 3 * 4096 + 1024 || at == 4 * 4096 || at == 5 * 4096 - 512;
      append_extent(extents, {512, !is_data, !is_data});
    }
    return 0;
  }
};

/// The real device behind it, 2 ms a write.
class SlowDevice final : public BlockDevice {
 public:
  explicit SlowDevice(std::shared_ptr<BlockDevice> device) : device_(std::move(device)) {}
  uint64_t size() const override { return device_->size(); }
  uint32_t block_size() const override { return device_->block_size(); }
  bool read_only() const override { return device_->read_only(); }
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override {
    return device_->read(offset, length, into);
  }
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return device_->write(offset, length, from, options);
  }
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    return device_->zero(offset, length, options);
  }
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    return device_->trim(offset, length, options);
  }
  Errno flush() override { return device_->flush(); }

 private:
  std::shared_ptr<BlockDevice> device_;
};

Bytes pattern(size_t length, int salt = 1) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<std::byte>((i * 31 + static_cast<size_t>(salt)) % 251 + 1);
  return bytes;
}

template <typename Claim>
bool eventually(Claim claim) {
  for (int i = 0; i < 800; ++i) {
    if (claim()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

/// Long enough that what is not held back would have come.
bool has_answer_within_a_moment(const RawNbdClient& client) {
  pollfd answer{client.descriptor(), POLLIN, 0};
  return ::poll(&answer, 1, 200) > 0;
}

/// A server over a device that keeps its first write until end(); the export "other" is over another one.
struct Stalling {
  explicit Stalling(bool over_tcp = false) {
    device->before_write = [this] {
      if (is_stalled.exchange(true)) return;
      is_stalled.notify_all();
      is_over.wait(false);
    };
    if (over_tcp) options.tcp_host = "127.0.0.1";
    if (!over_tcp) options.unix_path = directory.path("socket");
    options.exports = {{"", "", device, false}, {"other", "", std::make_shared<MemoryDevice>(kBytes), false}};
    server = serve(options);
  }
  ~Stalling() { end(); }
  RawNbdClient connect(const std::string& name = "") const {
    const std::string address = server->address();
    RawNbdClient client =
        options.unix_path.empty()
            ? RawNbdClient(static_cast<uint16_t>(std::stoul(address.substr(address.rfind(':') + 1))))
            : RawNbdClient(options.unix_path);
    client.go(false, name);
    return client;
  }
  /// Writes from offset 0, and sends more with it, so that both are received at once. Returns once the device
  /// keeps the write.
  void stall(RawNbdClient* client, const Bytes& more = {}, uint32_t length = 512) {
    const Bytes write = RawNbdClient::request_bytes(kWrite, 0, 0, length, pattern(length), 7);
    client->send(Wire().bytes(write).bytes(more));
    is_stalled.wait(false);
  }
  void end() {
    is_over = true;
    is_over.notify_all();
  }
  const ScratchDirectory directory;
  NbdServer::Options options;
  std::atomic<bool> is_stalled{false}, is_over{false};
  std::shared_ptr<MemoryDevice> device = std::make_shared<MemoryDevice>(kBytes);
  std::unique_ptr<NbdServer> server;
};

std::string listen_refusal(const NbdServer::Options& options) {
  const auto server = NbdServer::start(options);
  return server.ok() ? "listens" : server.error().code;
}

}  // namespace

TEST_CASE("a client learns an export's size, flags, name, description and block sizes") {
  const Served served;
  RawNbdClient client(served.socket);
  client.greet();
  const auto replies = client.option(6, info_option("", {1, 2, 3}));
  REQUIRE(replies.size() == 5);
  CHECK(replies[0].data == Bytes(Wire().u16(0).u64(kBytes).u16(0x96d & ~uint16_t{2})));
  CHECK(replies[1].data == Bytes(Wire().u16(1).text("")));
  CHECK(replies[2].data == Bytes(Wire().u16(2).text("the volume")));
  CHECK(replies[3].data == Bytes(Wire().u16(3).u32(512).u32(4096).u32(32 << 20)));
  CHECK(replies[4].type == 1);
  const auto fixed = client.option(6, info_option("fixed", {}));
  REQUIRE(fixed.size() == 2);
  CHECK((number_at(fixed[0].data, 10, 2) & 2) != 0);
  const auto list = client.option(3, {});
  REQUIRE(list.size() == 3);
  CHECK(list[1].data == Bytes(Wire().u32(5).text("fixed")));
  CHECK(client.option(6, info_option("nothing", {})).back().type == 0x80000006);
  CHECK(client.option(2, {}).back().type == 1);
  CHECK(client.closed());
}

TEST_CASE("a client of the old kind enters by EXPORT_NAME") {
  const Served served;
  RawNbdClient padded(served.socket);
  padded.greet(1);
  padded.send(Wire().u64(0x49484156454f5054).u32(1).u32(5).text("fixed"));
  const Bytes answer = padded.receive(134);
  CHECK(number_at(answer, 0, 8) == kBytes);
  CHECK((number_at(answer, 8, 2) & 3) == 3);
  CHECK(padded.perform(kFlush, 0, 0, 0) == 0);
  RawNbdClient unpadded(served.socket);
  unpadded.greet(2);  // not even fixed newstyle
  unpadded.send(Wire().u64(0x49484156454f5054).u32(1).u32(0));
  CHECK(number_at(unpadded.receive(10), 0, 8) == kBytes);
  CHECK(unpadded.read(0, 1) == Bytes(1));
  RawNbdClient lost(served.socket);
  lost.greet();
  lost.send(Wire().u64(0x49484156454f5054).u32(1).u32(4).text("none"));
  CHECK(lost.closed());
}

TEST_CASE("a negotiation that breaks the protocol is refused or dropped, and the server lives on") {
  const Served served;
  const auto drops = [&](const Bytes& after_greeting) {
    RawNbdClient client(served.socket);
    client.receive(18);
    client.send(after_greeting);
    return client.closed();
  };
  CHECK(drops(Wire().u32(0xffffffff)));                                        // unknown flags
  CHECK(drops(Wire().u32(3).u64(0x1234567812345678).u32(3).u32(0)));           // no option
  CHECK(drops(Wire().u32(2).u64(0x49484156454f5054).u32(3).u32(0)));           // not for this client
  CHECK(drops(Wire().u32(3).u64(0x49484156454f5054).u32(1).u32(0xffffffff)));  // a name of 4 GiB
  RawNbdClient client(served.socket);
  client.greet();
  CHECK(client.option(5, {}).back().type == 0x80000001);  // STARTTLS
  CHECK(client.option(12345, Bytes(4096)).back().type == 0x80000001);
  CHECK(client.option(3, Bytes(1)).back().type == 0x80000003);
  CHECK(client.option(8, Bytes(1)).back().type == 0x80000003);
  CHECK(client.option(7, {}).back().type == 0x80000003);
  CHECK(client.option(7, Wire().u32(100).text("").u16(0)).back().type ==
        0x80000003);                                                               // a name beyond the data
  CHECK(client.option(7, Wire().u32(0).u16(9)).back().type == 0x80000003);         // requests beyond the data
  CHECK(client.option(7, Wire().u32(0).u16(0).u16(0)).back().type == 0x80000003);  // and data beyond both
  CHECK(client.option(10, context_option("", {"base:allocation"})).back().type ==
        0x80000003);  // not structured
  CHECK(client.option(8, {}).back().type == 1);
  CHECK(client.option(10, Wire().u32(0).u32(0xffffffff)).back().type == 0x80000003);
  CHECK(client.option(10, context_option("nothing", {"base:allocation"})).back().type == 0x80000006);
  CHECK(client.option(9, context_option("", {})).size() == 2);
  CHECK(client.option(9, context_option("", {"base:"})).size() == 2);
  CHECK(client.option(10, context_option("", {"base:", "qemu:dirty-bitmap:x"})).size() == 1);
  CHECK(client.option(10, context_option("", {"base:allocation"})).size() == 2);
  client.send(Wire().u64(0x49484156454f5054).u32(6).u32(1 << 20));
  CHECK(number_at(client.receive(20), 12, 4) == 0x80000009);
  CHECK(client.closed());
  RawNbdClient(served.socket).go();
}

TEST_CASE("a client that never finishes its handshake is dropped, though it goes on sending") {
  const Served served;
  RawNbdClient silent(served.socket);
  silent.receive(18);
  RawNbdClient dribbling(served.socket);
  dribbling.receive(18);
  const Bytes options = Wire().u32(3).u64(0x49484156454f5054).u32(99).u32(4000).bytes(Bytes(4000));
  const bool dropped = eventually([&, at = size_t{0}]() mutable {
    return ::send(dribbling.descriptor(), options.data() + at++, 1, MSG_NOSIGNAL) < 0;
  });
  CHECK(dropped);
  CHECK(silent.closed());
}

TEST_CASE("requests that cannot be carried out get the protocol's error, and the connection goes on") {
  const Served served;
  RawNbdClient client(served.socket);
  client.go();
  const Bytes data = pattern(4096);
  CHECK(client.perform(kWrite, 0, kBytes, 4096, data) == kErrorNoSpc);
  CHECK(client.perform(kWrite, 0, kBytes - 4095, 4096, data) == kErrorNoSpc);
  CHECK(client.perform(kWrite, 0, UINT64_MAX - 100, 4096, data) == kErrorNoSpc);
  CHECK(client.perform(kWriteZeroes, 0, kBytes - 1, 2) == kErrorNoSpc);
  CHECK(client.perform(kTrim, 0, kBytes - 1, 2) == kErrorInval);
  CHECK(client.perform(kRead, 0, kBytes - 1, 2) == kErrorInval);
  CHECK(client.perform(kRead, 0, UINT64_MAX, 2) == kErrorInval);
  CHECK(client.perform(kRead, 0, 0, (32 << 20) + 1) == kErrorInval);
  CHECK(client.perform(kRead, kDontFragment, 0, 512) ==
        kErrorInval);  // structured replies were not negotiated
  CHECK(client.perform(kWrite, kNoHole, 0, 4096, data) == kErrorInval);
  CHECK(client.perform(kTrim, kFastZero, 0, 4096) == kErrorInval);
  CHECK(client.perform(kBlockStatus, 0, 0, 4096) == kErrorInval);
  CHECK(client.perform(kCache, 0, 0, 4096) == kErrorInval);
  CHECK(client.perform(4711, 0, 0, 0) == kErrorInval);
  CHECK(client.perform(kWrite, 0, 0, (32 << 20) + 8, Bytes((32 << 20) + 8)) == kErrorInval);
  CHECK(is_zero(served.content(0, kBytes).data(), kBytes));
  RawNbdClient reader(served.socket);
  reader.go(false, "fixed");
  CHECK(reader.perform(kWrite, 0, 0, 4096, data) == kErrorPerm);
  CHECK(reader.perform(kWriteZeroes, 0, 0, 4096) == kErrorPerm);
  CHECK(reader.perform(kTrim, 0, 0, 4096) == kErrorPerm);
  CHECK(reader.perform(kFlush, 0, 0, 0) == 0);
  CHECK(reader.read(0, 4096) == Bytes(4096));
  CHECK(served.server->stats().errors == 18);
}

TEST_CASE("a client that asked for block sizes must keep to them, one that did not need not") {
  const Served served;
  RawNbdClient strict(served.socket);
  strict.go(false, "", true);
  CHECK(strict.perform(kWrite, 0, 1, 512, pattern(512)) == kErrorInval);
  CHECK(strict.perform(kRead, 0, 0, 100) == kErrorInval);
  CHECK(strict.perform(kTrim, 0, 512, 511) == kErrorInval);
  CHECK(strict.perform(kWrite, 0, 512, 512, pattern(512)) == 0);
  RawNbdClient easy(served.socket);
  easy.go();
  CHECK(easy.perform(kWrite, 0, 4095, 3, pattern(3)) == 0);
  CHECK(easy.read(4095, 3) == pattern(3));
  CHECK(easy.perform(kWriteZeroes, kFua, 4096, 1) == 0);
  CHECK(easy.read(4096, 1) == Bytes(1));
  CHECK(easy.perform(kRead, 0, 3, 0) == 0);
  CHECK(easy.perform(kWrite, 0, 3, 0) == 0);
}

TEST_CASE("payloads of every size arrive whole, one by one and many at once") {
  const Served served;
  RawNbdClient client(served.socket);
  client.go();
  for (const size_t length : {1u, 511u, 65536u, 65537u, (1u << 20) - 1, 1u << 20, (1u << 20) + 1, 5u << 20}) {
    const Bytes data = pattern(length, static_cast<int>(length));
    CHECK(client.perform(kWrite, 0, 1000, static_cast<uint32_t>(length), data) == 0);
    CHECK(served.content(1000, length) == data);
    CHECK(client.read(1000, static_cast<uint32_t>(length)) == data);
  }
  // A burst, sent as one stream, so that requests begin and end anywhere in what the server receives at once.
  constexpr uint64_t kRequests = 200;
  const auto length_of = [](uint64_t i) {
    return static_cast<uint32_t>(i % 50 == 3 ? 39000 + i : i * 97 % 30000 + 1);
  };
  Wire burst;
  for (uint64_t i = 0; i < kRequests; ++i) {
    const Bytes data = pattern(length_of(i), static_cast<int>(i));
    burst.bytes(RawNbdClient::request_bytes(kWrite, 0, i * 40000, length_of(i), data, i));
  }
  for (uint64_t i = 0; i < kRequests; ++i)
    burst.bytes(RawNbdClient::request_bytes(kRead, 0, i * 40000, length_of(i), {}, kRequests + i));
  // No doctest assertion in there: a failed one would leave the thread by an exception. What is missing shows
  // below.
  const std::jthread sender([&client, &bytes = static_cast<const Bytes&>(burst)] {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t count =
          ::send(client.descriptor(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (count <= 0) return;
      done += static_cast<size_t>(count);
    }
  });
  for (uint64_t i = 0; i < 2 * kRequests; ++i) {
    const auto reply = client.simple_reply();
    CHECK(reply.error == 0);
    CHECK(reply.cookie == i);
    if (i < kRequests) continue;
    const uint32_t length = length_of(i - kRequests);
    CHECK(client.receive(length) == pattern(length, static_cast<int>(i - kRequests)));
  }
}

TEST_CASE("with structured replies a read comes as a chunk of data or a hole, and its errors as chunks too") {
  const Served served;
  RawNbdClient client(served.socket);
  CHECK((client.go(true) & 0x80) != 0);  // NBD_FLAG_SEND_DF
  CHECK(client.perform(kWrite, 0, 4096, 100, pattern(100)) == 0);
  client.request(kRead, kDontFragment, 4000, 300, {}, 99);
  auto chunk = client.chunk();
  CHECK(chunk.flags == 1);
  CHECK(chunk.type == 1);
  CHECK(chunk.cookie == 99);
  CHECK(chunk.data == Bytes(Wire().u64(4000).bytes(Bytes(96)).bytes(pattern(100)).bytes(Bytes(104))));
  client.request(kRead, 0, 1 << 20, 3 << 20);
  chunk = client.chunk();
  CHECK(chunk.type == 2);
  CHECK(chunk.data == Bytes(Wire().u64(1 << 20).u32(3 << 20)));
  client.request(kRead, 0, 0, 0);
  CHECK(client.chunk().type == 0);
  client.request(kRead, 0, kBytes, 1);
  chunk = client.chunk();
  CHECK(chunk.flags == 1);
  CHECK(chunk.type == 0x8001);
  CHECK(chunk.data == Bytes(Wire().u32(kErrorInval).u16(0)));
  client.request(kBlockStatus, 0, kBytes, 1);
  CHECK(client.chunk().type == 0x8001);
}

TEST_CASE("block status describes the whole request, or its first extent where one is asked for") {
  const Served served;
  if (!served.device->can_fast_zero()) return;  // a file system without holes
  RawNbdClient client(served.socket);
  client.go(true);
  CHECK(client.perform(kWrite, 0, 1 << 20, 65536, pattern(65536)) == 0);
  client.request(kBlockStatus, 0, 65536, 2 << 20);
  auto chunk = client.chunk();
  CHECK(chunk.type == 5);
  CHECK(chunk.flags == 1);
  constexpr uint32_t kHoleBefore = (1 << 20) - 65536;
  CHECK(chunk.data == Bytes(Wire()
                                .u32(1)
                                .u32(kHoleBefore)
                                .u32(3)
                                .u32(65536)
                                .u32(0)
                                .u32((2 << 20) - kHoleBefore - 65536)
                                .u32(3)));
  client.request(kBlockStatus, kRequestOne, 65536, 2 << 20);
  CHECK(client.chunk().data == Bytes(Wire().u32(1).u32(kHoleBefore).u32(3)));
  client.request(kBlockStatus, kRequestOne, 0, 4096);
  CHECK(client.chunk().data == Bytes(Wire().u32(1).u32(4096).u32(3)));
  client.request(kBlockStatus, 0, 0, 0);
  CHECK(client.chunk().type == 0x8001);
}

// Symptom: clients that keep to the block size of an export refused block statuses of points of 4096-byte
// volumes, where a hole may begin at any sector of 512. If it returns, lengths here are not multiples of
// 4096.
TEST_CASE("block status keeps to the block size that was negotiated, and a mixed block is data") {
  const ScratchDirectory directory;
  NbdServer::Options options;
  options.unix_path = directory.path("socket");
  options.exports = {{"", "", std::make_shared<PatchyDevice>(), true}};
  const auto server = serve(options);
  const auto extents_of = [&](bool asks_block_sizes, uint32_t length) {
    RawNbdClient client(options.unix_path);
    client.go(true, "", asks_block_sizes);
    client.request(kBlockStatus, 0, 0, length);
    return client.chunk().data;
  };
  CHECK(extents_of(true, 10 * 4096) ==
        Bytes(Wire().u32(1).u32(4096).u32(0).u32(2 * 4096).u32(3).u32(2 * 4096).u32(0).u32(5 * 4096).u32(3)));
  CHECK(extents_of(false, 4096) == Bytes(Wire().u32(1).u32(512).u32(0).u32(3584).u32(3)));
}

TEST_CASE("more extents than fit one answer are described as far as they fit") {
  const ScratchDirectory directory;
  Served served(directory.make_file("large", 128 << 20));
  if (!served.device->can_fast_zero()) return;
  constexpr uint32_t kPieces = 6000;
  const Bytes data = pattern(4096);
  for (uint64_t i = 0; i < kPieces; ++i) REQUIRE(served.device->write(i * 8192, 4096, data.data(), {}) == 0);
  RawNbdClient client(served.socket);
  client.go(true);
  uint64_t offset = 0, extents = 0;
  while (offset < 128 << 20) {
    client.request(kBlockStatus, 0, offset, static_cast<uint32_t>((128 << 20) - offset));
    const auto chunk = client.chunk();
    REQUIRE(chunk.type == 5);
    REQUIRE(chunk.data.size() > 4);
    CHECK(chunk.data.size() <= 4 + 8 * 4096);
    for (size_t at = 4; at < chunk.data.size(); at += 8) {
      CHECK(number_at(chunk.data, at + 4, 4) == (extents++ % 2 == 0 ? 0 : 3));
      offset += number_at(chunk.data, at, 4);
    }
  }
  CHECK(offset == 128 << 20);
  CHECK(extents == 2 * kPieces);
}

TEST_CASE("FLUSH and FUA reach the disk before they are answered") {
  NEEDS(LoopDisk::available(), "root and loop devices");
  const ScratchDirectory directory;
  const std::string file = directory.make_file("disk", kBytes);
  const LoopDisk disk(file, 512);
  Served served(disk.path());
  const auto on_disk = [&](uint64_t offset) {
    Bytes bytes(4096);
    const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::pread(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) == 4096);
    return bytes;
  };
  const Bytes data = pattern(4096);
  RawNbdClient client(served.socket);
  client.go();
  CHECK(client.perform(kWrite, 0, 0, 4096, data) == 0);
  CHECK(on_disk(0) == Bytes(4096));  // or this test shows nothing
  RawNbdClient other(served.socket);
  other.go();
  CHECK(other.perform(kFlush, 0, 0, 0) == 0);  // CAN_MULTI_CONN: of what was answered on any connection
  CHECK(on_disk(0) == data);
  CHECK(client.perform(kWrite, kFua, 8192, 4096, data) == 0);
  CHECK(on_disk(8192) == data);
  CHECK(client.perform(kWriteZeroes, kFua | kNoHole, 8192, 4096) == 0);
  CHECK(on_disk(8192) == Bytes(4096));
  // Inside one sector only writing would do: refused as "not fast", and untouched.
  CHECK(client.perform(kWriteZeroes, kFastZero, 100, 200) == kErrorNotSup);
  CHECK(client.read(0, 4096) == data);
  served.server->stop();
}

TEST_CASE("a client that leaves in the middle of a payload changes nothing and leaves nothing behind") {
  const Served served;
  for (const uint32_t length : {4096u, 1u << 20, 3u << 20}) {
    RawNbdClient client(served.socket);
    client.go();
    client.request(kWrite, 0, 0, length, pattern(1000));
    client.close();
  }
  RawNbdClient garbled(served.socket);
  garbled.go();
  garbled.send(Bytes(28, std::byte{0x55}));
  CHECK(garbled.closed());
  RawNbdClient leaving(served.socket);
  leaving.go();
  leaving.request(kWrite, 0, 4096, 512, pattern(512));
  leaving.request(kDisconnect, 0, 0, 0);
  CHECK(leaving.simple_reply().error == 0);
  CHECK(leaving.closed());
  CHECK(eventually([&] { return served.server->stats().connections == 0; }));
  CHECK(served.content(0, 4096) == Bytes(4096));
}

TEST_CASE("the 65th client is turned away, and served once another has left") {
  const Served served;
  std::list<RawNbdClient> clients;
  for (uint32_t i = 0; i < kNbdConnectionsMax; ++i) clients.emplace_back(served.socket).go();
  CHECK(served.server->stats().connections == kNbdConnectionsMax);
  RawNbdClient extra(served.socket);
  CHECK(extra.closed());
  CHECK(clients.back().read(0, 512) == Bytes(512));
  clients.pop_front();
  CHECK(eventually([&] { return served.server->stats().connections < kNbdConnectionsMax; }));
  RawNbdClient(served.socket).go();
}

// Symptom: a client whose connection broke while a write was stalled connected again, sent it again and then
// newer data, both acknowledged; what the old connection had received and not begun landed over that.
TEST_CASE("what a client that is gone had sent never lands over what it has written since") {
  Stalling stalling;
  RawNbdClient old = stalling.connect();
  const Bytes older = RawNbdClient::request_bytes(kWrite, 0, 4096, 512, pattern(512, 1), 8);
  SUBCASE("it connects again when it is gone: nothing is answered before all of the old is done") {
    stalling.stall(&old, older);
    old.close();
    RawNbdClient again = stalling.connect();
    again.request(kWrite, 0, 4096, 512, pattern(512, 1), 1);
    again.request(kWrite, 0, 4096, 512, pattern(512, 2), 2);
    CHECK_FALSE(has_answer_within_a_moment(again));
    stalling.end();
    for (const uint64_t cookie : {1, 2}) CHECK(again.simple_reply().cookie == cookie);
    CHECK(eventually([&] { return stalling.server->stats().connections == 1; }));
    CHECK(again.read(4096, 512) == pattern(512, 2));
  }
  SUBCASE("it had another connection all the time: the old begins nothing any more") {
    stalling.stall(&old, older);
    RawNbdClient other = stalling.connect();
    CHECK(other.perform(kWrite, 0, 4096, 512, pattern(512, 2)) == 0);
    old.close();
    stalling.end();
    CHECK(eventually([&] { return stalling.server->stats().connections == 1; }));
    CHECK(other.read(4096, 512) == pattern(512, 2));
  }
  SUBCASE("likewise when the server stops meanwhile") {
    stalling.stall(&old, older);
    RawNbdClient other = stalling.connect();
    CHECK(other.perform(kWrite, 0, 4096, 512, pattern(512, 2)) == 0);
    old.close();
    std::jthread stopping([&] { stalling.server->stop(); });
    CHECK(other.closed());
    stalling.end();
    stopping.join();
    Bytes now(512);
    CHECK(stalling.device->read(4096, 512, now.data()) == 0);
    CHECK(now == pattern(512, 2));
  }
  SUBCASE("likewise in the middle of a long write") {
    stalling.stall(&old, {}, (1 << 20) + 4096);
    RawNbdClient other = stalling.connect();
    CHECK(other.perform(kWrite, 0, 1 << 20, 512, pattern(512, 2)) == 0);
    old.close();
    stalling.end();
    CHECK(eventually([&] { return stalling.server->stats().connections == 1; }));
    CHECK(other.read(1 << 20, 512) == pattern(512, 2));
  }
}

TEST_CASE("over TCP likewise, as soon as it is known that a client is gone") {
  Stalling stalling(true);
  RawNbdClient old = stalling.connect();
  stalling.stall(&old, RawNbdClient::request_bytes(kWriteZeroes, 0, 4096, 512, {}, 8));
  SUBCASE("before the next connects") {
    old.close();
    RawNbdClient again = stalling.connect();
    again.request(kWrite, 0, 4096, 512, pattern(512, 2));
    CHECK_FALSE(has_answer_within_a_moment(again));
    stalling.end();
    CHECK(again.simple_reply().error == 0);
    CHECK(eventually([&] { return stalling.server->stats().connections == 1; }));
    CHECK(again.read(4096, 512) == pattern(512, 2));
  }
  SUBCASE("later") {
    RawNbdClient again = stalling.connect();
    CHECK(again.perform(kWrite, 0, 4096, 512, pattern(512, 2)) == 0);
    old.close();
    stalling.end();
    CHECK(eventually([&] { return stalling.server->stats().connections == 1; }));
    CHECK(again.read(4096, 512) == pattern(512, 2));
  }
}

TEST_CASE("a stalled backing holds nobody up but who was gone before") {
  Stalling stalling;
  RawNbdClient first = stalling.connect();
  stalling.stall(&first);
  SUBCASE("a client beside another that is there") {
    RawNbdClient second = stalling.connect();
    CHECK(second.perform(kWrite, 0, 4096, 512, pattern(512)) == 0);
    CHECK(second.read(4096, 512) == pattern(512));
    stalling.end();
    CHECK(first.simple_reply().error == 0);
    CHECK(first.read(4096, 512) == pattern(512));
  }
  SUBCASE("a client of another device") {
    first.close();
    RawNbdClient second = stalling.connect("other");
    CHECK(second.perform(kWrite, 0, 4096, 512, pattern(512)) == 0);
  }
  SUBCASE("those that negotiate, and whoever gives up waiting") {
    first.close();
    {
      RawNbdClient waiting = stalling.connect();
      CHECK(stalling.server->stats().connections == 2);
    }
    CHECK(eventually([&] { return stalling.server->stats().connections == 1; }));
  }
  SUBCASE("stop") {
    first.close();
    RawNbdClient waiting = stalling.connect();
    waiting.request(kRead, 0, 0, 512);
    std::jthread stopping([&] { stalling.server->stop(); });
    CHECK(waiting.closed());
    stalling.end();
    stopping.join();
    CHECK(stalling.server->stats().connections == 0);
  }
}

TEST_CASE("a client that has ended what it sends gets its answers, though others are there") {
  Stalling stalling;
  RawNbdClient leaving = stalling.connect();
  stalling.stall(&leaving);
  leaving.request(kWrite, 0, 4096, 512, pattern(512, 1), 8);
  leaving.request(kDisconnect, 0, 0, 0);
  RawNbdClient beside = stalling.connect();
  CHECK(beside.read(4096, 512) == Bytes(512));
  REQUIRE(::shutdown(leaving.descriptor(), SHUT_WR) == 0);
  RawNbdClient next = stalling.connect();
  next.request(kRead, 0, 4096, 512, {}, 9);
  CHECK_FALSE(has_answer_within_a_moment(next));
  stalling.end();
  CHECK(leaving.simple_reply().error == 0);
  CHECK(leaving.simple_reply().cookie == 8);
  CHECK(next.simple_reply().cookie == 9);
  CHECK(next.receive(512) == pattern(512, 1));
}

TEST_CASE("one that takes no answers either is cut off") {
  const Served served;
  RawNbdClient leaving(served.socket);
  leaving.go();
  for (uint64_t i = 0; i < 8; ++i) leaving.request(kRead, 0, 0, 1 << 20);
  REQUIRE(::shutdown(leaving.descriptor(), SHUT_WR) == 0);
  RawNbdClient next(served.socket);
  next.go();
  CHECK(next.read(0, 512) == Bytes(512));
  CHECK(served.server->stats().connections == 1);
}

TEST_CASE("stop finishes what clients have sent, then closes") {
  Served served;
  served.server->stop();
  auto slow = std::make_shared<SlowDevice>(served.device);  // so that most of it is still to be done
  NbdServer::Options options;
  options.unix_path = served.socket;
  options.exports = {{"", "", slow, false}};
  served.server = serve(options);
  RawNbdClient client(served.socket);
  client.go();
  constexpr uint64_t kRequests = 100;
  for (uint64_t i = 0; i < kRequests; ++i) client.request(kWrite, 0, i * 512, 512, pattern(512), i);
  RawNbdClient half_way(served.socket);
  half_way.receive(18);
  served.server->stop();
  for (uint64_t i = 0; i < kRequests; ++i) CHECK(client.simple_reply().cookie == i);
  CHECK(client.closed());
  CHECK(half_way.closed());
  CHECK(served.content((kRequests - 1) * 512, 512) == pattern(512));
  options.exports.clear();
  CHECK(slow.use_count() == 1);  // the server has let go of it
  struct stat node {};
  CHECK(::stat(served.socket.c_str(), &node) != 0);
  served.server->stop();
}

TEST_CASE("stop does not wait for a client that takes no replies") {
  Served served;
  RawNbdClient client(served.socket);
  client.go();
  for (uint64_t i = 0; i < 8; ++i) client.request(kRead, 0, 0, 1 << 20);
  served.server->stop();
  CHECK(served.server->stats().connections == 0);
}

TEST_CASE("a stale socket is replaced; a living server's and what is no socket are left alone") {
  const ScratchDirectory directory;
  NbdServer::Options options;
  options.unix_path = directory.path("socket");
  options.exports = {{"", "", open_device(directory.make_file("image", 4096)), false}};
  {
    const Fd abandoned(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto server = serve(options);  // makes the path …
    CHECK(listen_refusal(options) == "LISTEN_BUSY");
    REQUIRE(::rename(options.unix_path.c_str(), directory.path("moved").c_str()) == 0);
    server.reset();  // … which it no longer finds
    REQUIRE(::rename(directory.path("moved").c_str(), options.unix_path.c_str()) == 0);
  }
  auto server = serve(options);
  CHECK(server->address() == "unix:" + options.unix_path);
  struct stat node {};
  REQUIRE(::stat(options.unix_path.c_str(), &node) == 0);
  CHECK((node.st_mode & 0777) == 0600);
  RawNbdClient(options.unix_path).go();
  server.reset();
  options.unix_path = directory.make_file("file", 512);
  CHECK(listen_refusal(options) == "LISTEN_FAILED");
  CHECK(::stat(options.unix_path.c_str(), &node) == 0);
  options.unix_path = directory.path("missing/socket");
  CHECK(listen_refusal(options) == "LISTEN_FAILED");
  options.unix_path = directory.path(std::string(200, 'x'));
  CHECK(listen_refusal(options) == "LISTEN_FAILED");
}

// Symptom: a QEMU that connected again while no agent was there was refused, and tried again seconds later.
TEST_CASE(
    "whoever connects between two servers of a socket that is kept waits, and is served by the second") {
  const ScratchDirectory directory;
  NbdServer::Options options;
  options.exports = {{"", "", open_device(directory.make_file("image", 4096)), false}};
  const auto succeeds = [&options](const auto& connect, const auto& die) {
    auto server = NbdServer::open(options);
    REQUIRE(server.ok());
    const auto kept = (*server)->listening();
    REQUIRE(kept.ok());
    const std::string address = (*server)->address();
    RawNbdClient client = connect(address);
    die(*server);
    NbdServer::Options next;
    next.exports = options.exports;
    next.listening = kept->get();
    auto successor = NbdServer::open(next);
    REQUIRE_MESSAGE(successor.ok(), (successor.ok() ? "" : successor.error().message));
    CHECK((*successor)->address() == address);
    REQUIRE((*successor)->admit().ok());
    client.go();
    CHECK(client.read(0, 512).size() == 512);
    RawNbdClient later = connect(address);
    later.go();
  };
  options.tcp_host = "127.0.0.1";
  succeeds(
      [](const std::string& address) {
        return RawNbdClient(static_cast<uint16_t>(std::stoul(address.substr(address.rfind(':') + 1))));
      },
      [](auto& server) { server.reset(); });
  options.unix_path = directory.path("socket");
  succeeds([&options](const std::string&) { return RawNbdClient(options.unix_path); },
           [&](auto& server) {
             // As it dies it must not find its path: a process that is killed removes nothing.
             REQUIRE(::rename(options.unix_path.c_str(), directory.path("moved").c_str()) == 0);
             server.reset();
             REQUIRE(::rename(directory.path("moved").c_str(), options.unix_path.c_str()) == 0);
           });
  struct stat node {};
  CHECK(::lstat(options.unix_path.c_str(), &node) != 0);  // the successor's end
}

TEST_CASE("a kept socket that nobody would find, or that is none, is not gone on with") {
  const ScratchDirectory directory;
  NbdServer::Options options;
  options.exports = {{"", "", open_device(directory.make_file("image", 4096)), false}};
  NbdServer::Options next = options;
  options.unix_path = directory.path("socket");
  const auto server = NbdServer::open(options);
  REQUIRE(server.ok());
  const auto kept = (*server)->listening();
  next.listening = kept->get();
  REQUIRE(::unlink(options.unix_path.c_str()) == 0);
  CHECK(listen_refusal(next) == "LISTEN_FAILED");
  directory.make_file("socket", 512);
  CHECK(listen_refusal(next) == "LISTEN_FAILED");
  const Fd idle(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  next.listening = idle.get();
  CHECK(listen_refusal(next) == "LISTEN_FAILED");
  const Fd file(::open(directory.path("socket").c_str(), O_RDONLY | O_CLOEXEC));
  next.listening = file.get();
  CHECK(listen_refusal(next) == "LISTEN_FAILED");
}

TEST_CASE("a TCP server names its real port, and a second one on it is refused") {
  const ScratchDirectory directory;
  NbdServer::Options options;
  options.tcp_host = "127.0.0.1";
  options.exports = {{"", "", open_device(directory.make_file("image", 4096)), false}};
  const auto server = serve(options);
  const std::string prefix = "tcp:127.0.0.1:";
  REQUIRE(server->address().substr(0, prefix.size()) == prefix);
  options.tcp_port = static_cast<uint16_t>(std::stoul(server->address().substr(prefix.size())));
  CHECK(options.tcp_port != 0);
  CHECK(listen_refusal(options) == "LISTEN_BUSY");
  options.tcp_host = "localhost";
  CHECK(listen_refusal(options) == "LISTEN_FAILED");
}

}  // namespace afterimage
