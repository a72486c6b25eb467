// NbdServer used by programs that know nothing of it: libnbd, QEMU and fio. Each case is left out where its
// program is not installed.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "device/file_device.h"
#include "frontend/nbd_server.h"
#include "os/fd.h"
#include "prerequisite.h"
#include "scratch_files.h"

extern char** environ;

namespace afterimage {
namespace {

constexpr uint64_t kBytes = 16 << 20;

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool installed(const std::string& program) {
  std::istringstream directories(std::getenv("PATH") == nullptr ? "" : std::getenv("PATH"));
  for (std::string directory; std::getline(directories, directory, ':');)
    if (::access((directory + "/" + program).c_str(), X_OK) == 0) return true;
  return false;
}

/// A server with one writable TCP-less export, and a place for the output of programs.
struct Served {
  explicit Served(const std::string& file = "")
      : image(file.empty() ? directory.make_file("image", kBytes) : file) {
    auto device =
        FileDevice::open(image, {.exclusive = false});  // so that programs can look at the file itself
    REQUIRE(device.ok());
    NbdServer::Options options;
    options.unix_path = directory.path("socket");
    options.exports = {{"", "", std::move(*device), false}};
    auto started = NbdServer::start(options);
    REQUIRE(started.ok());
    server = std::move(*started);
    uri = "nbd+unix:///?socket=" + options.unix_path;
  }
  /// Runs a program to its end. Returns what it wrote; fails the test, showing that, unless it exits with 0.
  std::string run(std::vector<std::string> arguments) const {
    const std::string output = directory.path("output");
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t process = 0;
    const int error = ::posix_spawnp(&process, words[0], &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    REQUIRE(error == 0);
    int status = 0;
    while (::waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
    const std::string said = content_of(output);
    REQUIRE_MESSAGE(status == 0, arguments[0] << " ended with " << status << ":\n" << said);
    return said;
  }
  const ScratchDirectory directory;
  const std::string image;
  std::string uri;
  std::unique_ptr<NbdServer> server;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("nbdinfo finds every capability") {
  NEEDS(installed("nbdinfo"), "nbdinfo");
  const Served served;
  const std::string said = served.run({"nbdinfo", "--json", served.uri});
  for (const char* const fact :
       {"\"protocol\": \"newstyle-fixed\"", "\"structured\": true", "\"export-size\": 16777216",
        "\"is_read_only\": false", "\"can_flush\": true", "\"can_fua\": true", "\"can_trim\": true",
        "\"can_zero\": true", "\"can_fast_zero\": true", "\"can_df\": true", "\"can_multi_conn\": true",
        "\"can_cache\": false", "\"block_size_minimum\": 512", "\"block_size_maximum\": 33554432",
        "\"base:allocation\""})
    CHECK_MESSAGE(contains(said, fact), fact << " in\n" << said);
}

TEST_CASE("nbdcopy copies in and out again, over several connections at once") {
  NEEDS(installed("nbdcopy"), "nbdcopy");
  const Served served;
  const std::string source = served.directory.make_file("source", kBytes);
  std::fstream file(source, std::ios::binary | std::ios::in | std::ios::out);
  for (uint64_t offset = 0; offset < kBytes; offset += 3 << 20) {  // islands of data in a hole
    file.seekp(static_cast<std::streamoff>(offset));
    for (int i = 0; i < 70000; ++i) file.put(static_cast<char>(i * 7 + static_cast<int>(offset >> 20)));
  }
  file.close();
  served.run({"nbdcopy", source, served.uri});
  served.run({"nbdcopy", "--flush", served.uri, served.directory.path("copy")});
  const bool same = content_of(served.directory.path("copy")) == content_of(source);
  CHECK(same);
  CHECK(served.server->stats().errors == 0);
}

TEST_CASE("qemu-io writes, zeroes and discards, and qemu-img agrees with the file") {
  NEEDS(installed("qemu-io") && installed("qemu-img"), "qemu-io and qemu-img");
  const Served served;
  const std::string said = served.run({"qemu-io",
                                       "-f",
                                       "raw",
                                       "-c",
                                       "write -P 0xab 4k 64k",
                                       "-c",
                                       "write -f -P 0xcd 1M 512",
                                       "-c",
                                       "write -z 8k 4k",
                                       "-c",
                                       "write -z -u 16k 4k",
                                       "-c",
                                       "discard 24k 4k",
                                       "-c",
                                       "flush",
                                       "-c",
                                       "read -P 0xab 4k 4k",
                                       "-c",
                                       "read -P 0 8k 4k",
                                       "-c",
                                       "read -P 0xab 12k 4k",
                                       "-c",
                                       "read -P 0 16k 4k",
                                       "-c",
                                       "read -P 0 24k 4k",
                                       "-c",
                                       "read -P 0xcd 1M 512",
                                       "-c",
                                       "write -P 0xee 3M 5M",
                                       "-c",
                                       "read -P 0xee 3M 5M",
                                       served.uri});
  CHECK_MESSAGE(!contains(said, "failed"), said);
  CHECK(
      contains(served.run({"qemu-img", "compare", "-f", "raw", "-F", "raw", "-U", served.image, served.uri}),
               "identical"));
  const std::string over_nbd = served.run({"qemu-img", "map", "-f", "raw", "--output=json", served.uri});
  CHECK_MESSAGE(contains(over_nbd, "\"start\": 3145728, \"length\": 5242880"), over_nbd);
  CHECK(served.server->stats().errors == 0);
}

TEST_CASE("fio reads back what it wrote, at depth 32") {
  NEEDS(installed("fio"), "fio");
  const Served served;
  for (const char* const size : {"--bs=4k", "--bsrange=512-256k"}) {
    const std::string said =
        served.run({"fio", "--name=verify", "--ioengine=nbd", "--uri=" + served.uri, "--rw=randwrite", size,
                    "--iodepth=32", "--size=16M", "--randseed=11", "--fsync=512", "--verify=crc32c",
                    "--verify_fatal=1"});
    CHECK_MESSAGE(contains(said, "err= 0"), said);
  }
  CHECK(served.server->stats().errors == 0);
}

TEST_CASE("a libnbd program keeps several requests of all kinds in flight") {
  // The distribution's own Python, since libnbd's module is made for that one; not nbdsh, which takes the
  // first.
  const std::string python = "/usr/bin/python3";
  NEEDS(::access(python.c_str(), X_OK) == 0, python);
  const Served served;
  NEEDS(contains(served.run({python, "-c", "try:\n import nbd; print('present')\nexcept ImportError: pass"}),
                 "present"),
        "libnbd's Python module");
  served.run({python, "-c", R"(
import random, sys, nbd
random.seed(5)
h = nbd.NBD()
h.connect_uri(sys.argv[1])
size = h.get_size()
model = bytearray(size)
for round in range(8):
    cookies, taken = [], []
    for slot in random.sample(range(64), 24):
        offset, length = slot * 65536 + 512 * random.randrange(8), 512 * random.randrange(1, 100)
        kind = random.randrange(3)
        if kind == 0:
            data = random.randbytes(length)
            cookies.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset,
                                        flags=random.choice([0, nbd.CMD_FLAG_FUA])))
            model[offset:offset + length] = data
        else:
            flags = random.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA])
            cookies.append(h.aio_zero(length, offset, flags=flags) if kind == 1 else h.aio_trim(length, offset))
            model[offset:offset + length] = bytes(length)
    while h.aio_in_flight() > 0: h.poll(-1)
    for cookie in cookies: assert h.aio_command_completed(cookie)
    h.flush()
    at = 512 * random.randrange(2000)
    assert h.pread(300000 // 512 * 512, at) == model[at:at + 300000 // 512 * 512]
assert h.pread(size, 0) == model
)",
              served.uri});
  CHECK(served.server->stats().errors == 0);
}

}  // namespace afterimage
