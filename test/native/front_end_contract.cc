#include "front_end_contract.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "front_end_tenant.h"
#include "volatile_device.h"

namespace afterimage {
namespace {

using Bytes = FrontEndClient::Bytes;
using test::VolatileDevice;

constexpr uint64_t kDeviceBytes = 5 << 20;
constexpr uint64_t kPageBytes = 4096;
constexpr std::chrono::milliseconds kDelay{3};
constexpr size_t kClients = 4;

uint64_t seed_of_run() {
  const char* given = std::getenv("AFTERIMAGE_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20240229;
}

struct Scene {
  const FrontEnd& front_end;
  uint32_t block_size;
  uint64_t seed = seed_of_run();
  std::string at(const std::string& step) const {
    return front_end.name + ", blocks of " + std::to_string(block_size) +
           ", AFTERIMAGE_TEST_SEED=" + std::to_string(seed) + ", " + step;
  }
};

Bytes pattern(uint64_t length, int salt) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<std::byte>((i * 7 + i / 256 + static_cast<size_t>(salt)) % 253);
  return bytes;
}

/// Threads and descriptors of this process.
struct Footprint {
  static size_t entries(const char* directory) {
    const std::filesystem::directory_iterator all(directory);
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }
  size_t threads = entries("/proc/self/task");
  size_t descriptors = entries("/proc/self/fd");
};

/// A device that is being served. Clients are to be destroyed before it.
struct Stage {
  explicit Stage(const Scene& scene, bool device_read_only = false, bool export_read_only = false)
      : Stage(std::make_shared<VolatileDevice>(kDeviceBytes + 3 * scene.block_size, scene.block_size,
                                               device_read_only),
              scene, export_read_only) {}
  Stage(std::shared_ptr<VolatileDevice> made, const Scene& scene, bool export_read_only)
      : device(std::move(made)), served(scene.front_end.serve(device, export_read_only)) {}
  std::unique_ptr<FrontEndClient> connect() { return served->connect(); }
  std::vector<std::unique_ptr<FrontEndClient>> connect(size_t count) {
    std::vector<std::unique_ptr<FrontEndClient>> clients;
    for (size_t i = 0; i < count; ++i) clients.push_back(connect());
    return clients;
  }
  const std::shared_ptr<VolatileDevice> device;
  std::unique_ptr<ServedFrontEnd> served;
};

/// Runs `work(index)` in a thread for each index and returns what went wrong in any, "" for nothing. A failed
/// requirement of the client's own code ends only its thread.
std::string in_parallel(size_t count, const std::function<std::string(size_t)>& work) {
  std::vector<std::string> problems(count);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < count; ++i)
      threads.emplace_back([&, i] {
        try {
          problems[i] = work(i);
        } catch (...) {
          problems[i] = "the client has given up";
        }
      });
  }
  std::string all;
  for (size_t i = 0; i < count; ++i)
    if (!problems[i].empty()) all += "client " + std::to_string(i) + ": " + problems[i] + "; ";
  return all;
}

void check_geometry(const Scene& scene) {
  Stage stage(scene);
  const auto client = stage.connect();
  CHECK_MESSAGE(client->size() == stage.device->size(), scene.at("size"));
  CHECK_MESSAGE(client->block_size() == scene.block_size, scene.at("block size"));
}

void check_reading_back(const Scene& scene) {
  constexpr uint64_t kSteps = 40;
  Stage stage(scene);
  VolatileDevice& device = *stage.device;
  const auto clients = stage.connect(kClients);
  std::vector<FrontEndTenant> tenants;
  for (size_t i = 0; i < kClients; ++i) {
    const uint64_t begin = i * (kDeviceBytes / kClients);
    const uint64_t end = i + 1 == kClients ? device.size() : begin + kDeviceBytes / kClients;
    tenants.emplace_back(*clients[i], begin, device.content(begin, end - begin));
  }
  const std::string problems =
      in_parallel(kClients, [&](size_t i) { return tenants[i].live(scene.seed + i, kSteps); });
  CHECK_MESSAGE(problems.empty(), scene.at(problems));
  const auto reader = stage.connect();
  for (const FrontEndTenant& tenant : tenants) {
    const std::string at = "after the history, from " + std::to_string(tenant.begin());
    Bytes seen(tenant.model().size());
    CHECK_MESSAGE(reader->read(tenant.begin(), &seen) == 0, scene.at(at));
    CHECK_MESSAGE((seen == tenant.model()), scene.at(at + ", through the front end"));
    CHECK_MESSAGE((device.content(tenant.begin(), seen.size()) == tenant.model()),
                  scene.at(at + ", the device"));
  }
}

void check_order_of_acknowledgement(const Scene& scene) {
  Stage stage(scene);
  VolatileDevice& device = *stage.device;
  const auto client = stage.connect();
  device.set_delay(kDelay);
  for (const uint64_t length : {kPageBytes, kLongRequestBytes}) {
    const std::string at = ", length " + std::to_string(length);
    const Bytes data = pattern(length, 1), other = pattern(length, 2), zeroes(length);
    CHECK_MESSAGE(client->write(0, data) == 0, scene.at("write" + at));
    CHECK_MESSAGE((device.content(0, length) == data), scene.at("acknowledged before it was written" + at));
    CHECK_MESSAGE(client->zero(0, length) == 0, scene.at("zero" + at));
    CHECK_MESSAGE((device.content(0, length) == zeroes), scene.at("acknowledged before it was zeroed" + at));
    CHECK_MESSAGE(client->write_durably(0, other) == 0, scene.at("durable write" + at));
    CHECK_MESSAGE((device.stable(0, length) == other), scene.at("durable write, after a power loss" + at));
    CHECK_MESSAGE(client->trim(0, length) == 0, scene.at("trim" + at));
    CHECK_MESSAGE((device.content(0, length) == zeroes), scene.at("acknowledged before it was trimmed" + at));
  }
}

void check_flush_of_every_client(const Scene& scene) {
  constexpr uint64_t kRounds = 6, kRoundBytes = 3 * kPageBytes;  // whichever threads serve them
  Stage stage(scene);
  VolatileDevice& device = *stage.device;
  const auto clients = stage.connect(kClients);
  const Bytes data = pattern(kPageBytes, 3);
  Bytes expected(kRoundBytes);
  std::copy(data.begin(), data.end(), expected.begin());
  device.set_delay(kDelay);
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t at = round * kRoundBytes;
    const Bytes before = device.stable(at, kRoundBytes);
    CHECK_MESSAGE(clients[0]->write(at, data) == 0, scene.at("write"));
    CHECK_MESSAGE(clients[1]->zero(at + kPageBytes, kPageBytes) == 0, scene.at("zero"));
    CHECK_MESSAGE(clients[2]->trim(at + 2 * kPageBytes, kPageBytes) == 0, scene.at("trim"));
    CHECK_MESSAGE((device.stable(at, kRoundBytes) == before), scene.at("or the flush shows nothing"));
    CHECK_MESSAGE(clients[3]->flush() == 0, scene.at("flush"));
    CHECK_MESSAGE((device.stable(at, kRoundBytes) == expected), scene.at("flushed, after a power loss"));
  }
}

/// The last client flushes while the others write: what was answered before a flush was asked for must
/// survive it. Every page begins with the number of the write that it is from.
void check_flush_under_load(const Scene& scene) {
  constexpr size_t kWriters = kClients - 1;
  constexpr uint64_t kPages = 8, kWrites = 40;
  Stage stage(scene);
  VolatileDevice& device = *stage.device;
  const auto clients = stage.connect(kClients);
  const auto place = [](size_t writer, uint64_t page) { return (page * kWriters + writer) * kPageBytes; };
  REQUIRE(device.zero(0, kWriters * kPages * kPageBytes, {.fua = true}) == 0);
  device.set_delay(std::chrono::microseconds(300));

  std::array<std::array<std::atomic<uint64_t>, kPages>, kWriters> answered{};
  std::atomic<size_t> writing{kWriters};
  const auto write = [&](size_t writer) -> std::string {
    std::mt19937_64 random(scene.seed + writer);
    Errno error = 0;
    for (uint64_t number = 1; number <= kWrites && error == 0; ++number) {
      const uint64_t page = random() % kPages;
      Bytes data(kPageBytes);
      std::memcpy(data.data(), &number, sizeof number);
      error = clients[writer]->write(place(writer, page), data);
      if (error == 0) answered[writer][page] = number;
    }
    --writing;
    return error == 0 ? "" : "write, errno " + std::to_string(error);
  };
  const auto flush_once = [&]() -> std::string {
    std::array<std::array<uint64_t, kPages>, kWriters> promised{};
    for (size_t writer = 0; writer < kWriters; ++writer)
      for (uint64_t page = 0; page < kPages; ++page) promised[writer][page] = answered[writer][page];
    if (const Errno error = clients.back()->flush()) return "flush, errno " + std::to_string(error);
    for (size_t writer = 0; writer < kWriters; ++writer)
      for (uint64_t page = 0; page < kPages; ++page) {
        uint64_t kept = 0;
        std::memcpy(&kept, device.stable(place(writer, page), sizeof kept).data(), sizeof kept);
        if (kept < promised[writer][page])
          return "a power loss leaves write " + std::to_string(kept) + " of client " +
                 std::to_string(writer) + " where " + std::to_string(promised[writer][page]) + " was flushed";
      }
    return "";
  };
  const std::string problems = in_parallel(kClients, [&](size_t i) {
    if (i < kWriters) return write(i);
    std::string problem;
    do problem = flush_once();
    while (problem.empty() && writing > 0);
    return problem;
  });
  CHECK_MESSAGE(problems.empty(), scene.at(problems));
}

void check_errors(const Scene& scene) {
  Stage stage(scene);
  const auto client = stage.connect();
  const auto bystander = stage.connect();
  Bytes data = pattern(kPageBytes, 4), long_data = pattern(kLongRequestBytes, 5);
  struct Request {
    const char* name;
    std::function<Errno()> perform;
  };
  const Request requests[] = {
      {"read", [&] { return client->read(kPageBytes, &data); }},
      {"long read", [&] { return client->read(0, &long_data); }},
      {"write", [&] { return client->write(kPageBytes, data); }},
      {"long write", [&] { return client->write(0, long_data); }},
      {"durable write", [&] { return client->write_durably(kPageBytes, data); }},
      {"zero", [&] { return client->zero(kPageBytes, kPageBytes); }},
      {"trim", [&] { return client->trim(kPageBytes, kPageBytes); }},
      {"flush", [&] { return client->flush(); }},
  };
  for (const Errno failure : {EIO, ENOSPC})
    for (const Request& request : requests) {
      const std::string at = std::string(request.name) + ", errno " + std::to_string(failure);
      stage.device->set_failure(failure);
      const Errno told = request.perform();
      stage.device->set_failure(0);
      CHECK_MESSAGE(told != 0, scene.at(at));
      if (!scene.front_end.has_block_layer) CHECK_MESSAGE(told == failure, scene.at(at));
      CHECK_MESSAGE(request.perform() == 0, scene.at(at + ", then the same again"));
      CHECK_MESSAGE(bystander->write(2 * kLongRequestBytes, data) == 0,
                    scene.at(at + ", then another client"));
    }
}

void check_read_only(const Scene& scene) {
  for (const bool device_read_only : {false, true}) {
    const std::string kind = device_read_only ? "of a read-only device: " : "of a read-only export: ";
    Stage stage(scene, device_read_only, !device_read_only);
    const auto client = stage.connect();
    const Bytes before = stage.device->content(0, kLongRequestBytes), data = pattern(kPageBytes, 6);
    const auto check_refused = [&](const char* name, Errno error) {
      // Opening a read-only block device for writing is EACCES.
      const bool is_refusal =
          error == EPERM || error == EROFS || (scene.front_end.has_block_layer && error == EACCES);
      CHECK_MESSAGE(is_refusal, scene.at(kind + name + ", errno " + std::to_string(error)));
    };
    check_refused("write", client->write(0, data));
    check_refused("durable write", client->write_durably(0, data));
    check_refused("zero", client->zero(0, kPageBytes));
    check_refused("trim", client->trim(0, kPageBytes));
    CHECK_MESSAGE(stage.device->attempts() == 0, scene.at(kind + "a refused request went to the device"));
    Bytes seen(kLongRequestBytes);
    CHECK_MESSAGE(client->read(0, &seen) == 0, scene.at(kind + "read"));
    CHECK_MESSAGE((seen == before), scene.at(kind + "read"));
    CHECK_MESSAGE(client->flush() == 0, scene.at(kind + "flush"));
  }
}

void check_the_end(const Scene& scene) {
  Stage stage(scene);
  VolatileDevice& device = *stage.device;
  const auto client = stage.connect();
  const uint64_t size = device.size(), block = scene.block_size;
  const Bytes before = device.content(0, size);
  const auto check_refused = [&](uint64_t offset, uint64_t length) {
    const std::string at = ", offset " + std::to_string(offset) + " length " + std::to_string(length);
    Bytes data = pattern(length, 7);
    CHECK_MESSAGE(client->read(offset, &data) != 0, scene.at("read" + at));
    CHECK_MESSAGE(client->write(offset, data) != 0, scene.at("write" + at));
    CHECK_MESSAGE(client->write_durably(offset, data) != 0, scene.at("durable write" + at));
    CHECK_MESSAGE(client->zero(offset, length) != 0, scene.at("zero" + at));
    CHECK_MESSAGE(client->trim(offset, length) != 0, scene.at("trim" + at));
  };
  check_refused(size, block);
  check_refused(size + kDeviceBytes, 3 * block);
  check_refused(uint64_t{1} << 62, block);
  if (!scene.front_end.has_block_layer) {
    check_refused(size - block, 2 * block);
    check_refused(size - 2 * block, kPageBytes * 4);
  }
  CHECK_MESSAGE(device.changes() == 0, scene.at("a request beyond the end has changed the device"));
  CHECK_MESSAGE((device.content(0, size) == before),
                scene.at("a request beyond the end touched the content"));
  const Bytes last = pattern(block, 8);
  CHECK_MESSAGE(client->write(size - block, last) == 0, scene.at("the last block"));
  CHECK_MESSAGE((device.content(size - block, block) == last), scene.at("the last block"));
  CHECK_MESSAGE(client->size() == size, scene.at("has grown"));
}

void check_stop(const Scene& scene) {
  const auto device = std::make_shared<VolatileDevice>(kDeviceBytes, scene.block_size);
  std::thread([] {}).join();  // a sanitizer's own thread comes with the first other one
  const Footprint before;
  Stage stage(device, scene, false);
  const Bytes data = pattern(kPageBytes, 9);
  auto clients = stage.connect(kClients);
  std::string problems;
  {
    // Destroyed from the last to the first: the device lets go, the clients get their answers, stop()
    // returns.
    std::jthread stopping, writing;
    VolatileDevice::Hold hold(*device, 0, kDeviceBytes);
    writing = std::jthread([&] {
      problems = in_parallel(kClients, [&](size_t i) -> std::string {
        const Errno error = clients[i]->write(i * kLongRequestBytes, data);
        clients[i].reset();
        return error == 0 ? "" : "write, errno " + std::to_string(error);
      });
    });
    CHECK_MESSAGE(hold.has_caught(kClients), scene.at("requests of several clients at the same time"));
    stopping = std::jthread([&] { stage.served->stop(); });
    std::this_thread::sleep_for(10 * kDelay);  // stop() is well on its way
  }
  CHECK_MESSAGE(problems.empty(), scene.at("received before stop(): " + problems));
  for (size_t i = 0; i < kClients; ++i)
    CHECK_MESSAGE((device->content(i * kLongRequestBytes, kPageBytes) == data),
                  scene.at("received before stop()"));
  CHECK_MESSAGE(stage.served->remains() == "", scene.at("after stop()"));
  CHECK_MESSAGE(device.use_count() == 2, scene.at("the device was not given back to stage and test"));
  stage.served->stop();  // again is harmless
  // A thread that was joined leaves /proc a moment later.
  for (int i = 0; i < 200 && Footprint().threads != before.threads; ++i) std::this_thread::sleep_for(kDelay);
  CHECK_MESSAGE(Footprint().threads == before.threads, scene.at("threads after stop()"));
  stage.served.reset();
  CHECK_MESSAGE(Footprint().descriptors == before.descriptors, scene.at("descriptors after the end"));
}

void check_vanishing_client(const Scene& scene) {
  constexpr uint64_t kHalf = kDeviceBytes / 2;
  constexpr int kVanishings = 6;  // more than there are threads, should each of them cost one
  Stage stage(scene);
  VolatileDevice& device = *stage.device;
  const auto staying = stage.connect();
  for (int i = 0; i < kVanishings; ++i) {
    const Bytes data = pattern(kPageBytes, i);
    Bytes seen(kPageBytes);
    const auto leaving = stage.connect();
    {
      VolatileDevice::Hold hold(device, 0, kHalf);
      bool has_arrived = false;
      leaving->vanish_during_write(0, data, [&] { has_arrived = hold.has_caught(1); });
      REQUIRE_MESSAGE(has_arrived, scene.at("the write of the client that vanishes"));
      REQUIRE_MESSAGE(staying->write(kHalf, data) == 0, scene.at("write while another client vanishes"));
      REQUIRE_MESSAGE(staying->read(kHalf, &seen) == 0, scene.at("read while another client vanishes"));
    }
    CHECK_MESSAGE((seen == data), scene.at("read while another client vanishes"));
    CHECK_MESSAGE(staying->flush() == 0, scene.at("flush after a client has vanished"));
    CHECK_MESSAGE((device.stable(kHalf, kPageBytes) == data), scene.at("flush after a client has vanished"));
  }
  CHECK_MESSAGE(stage.connect()->flush() == 0, scene.at("a new client after some have vanished"));
}

}  // namespace

void check_front_end_contract(const FrontEnd& front_end) {
  const auto with_each_block_size = [&](void (*check)(const Scene&)) {
    for (const uint32_t block_size : {512u, 4096u}) check({front_end, block_size});
  };
  SUBCASE("a client sees the device's size and block size") { with_each_block_size(check_geometry); }
  SUBCASE("what several clients write, zero and trim at once is read back") {
    with_each_block_size(check_reading_back);
  }
  SUBCASE("a change is on the device before it is acknowledged, a durable one on stable storage") {
    with_each_block_size(check_order_of_acknowledgement);
  }
  SUBCASE("a flush covers what was answered to every client") {
    with_each_block_size(check_flush_of_every_client);
  }
  SUBCASE("a flush while others write covers what was answered to them") {
    with_each_block_size(check_flush_under_load);
  }
  SUBCASE("an error of the device is told to the client, and the next request works") {
    with_each_block_size(check_errors);
  }
  SUBCASE("a read-only export refuses changes and serves reads") { with_each_block_size(check_read_only); }
  SUBCASE("a request beyond the end is an error and changes nothing") { with_each_block_size(check_the_end); }
  SUBCASE("stop() finishes what was received and leaves nothing behind") { with_each_block_size(check_stop); }
  SUBCASE("a client that vanishes does not disturb another") { with_each_block_size(check_vanishing_client); }
}

}  // namespace afterimage
