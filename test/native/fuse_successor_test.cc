// Symptom of what must not be: the agent is killed, and whoever uses the loop device gets I/O errors, hangs,
// or finds an older block than it was told was written. Real processes here: servers that are killed with
// requests in flight, successors that get their descriptors, writers that check every answer.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "device/file_device.h"
#include "frontend/fuse_mount.h"
#include "frontend/fuse_server.h"
#include "frontend/loop_device.h"
#include "prerequisite.h"
#include "scratch_files.h"
#include "served_volume.h"

using namespace afterimage;
using namespace afterimage::test;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t kVolumeBytes = 16u << 20;
constexpr size_t kBlockBytes = 4096;
constexpr int kWriters = 4;
constexpr uint64_t kBlocksEach = kVolumeBytes / kBlockBytes / kWriters;
constexpr int kKills = 8;

/// A child process, killed and reaped at the end of its scope.
class Child {
 public:
  Child() = default;
  template <typename Body>
  explicit Child(Body body) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(body());
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~Child() { kill(); }
  /// All its threads have ended when this returns.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  /// Its exit status, or -1 if it does not end in time.
  int wait(std::chrono::seconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < deadline) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      ::usleep(5000);
    }
    return -1;
  }

 private:
  pid_t pid_ = -1;
};

struct Pipe {
  Fd read, write;
  Pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
};

struct Told {
  uint32_t connection;
  char mount_point[200];
};

/// Descriptors to whoever keeps them, as a descriptor store gets them.
bool send_legacy(int socket, const FuseServer::Legacy& legacy) {
  Told told{legacy.connection, {}};
  std::strncpy(told.mount_point, legacy.mount_point.c_str(), sizeof told.mount_point - 1);
  iovec text{&told, sizeof told};
  const std::array<int, 2> descriptors{legacy.fuse.get(), legacy.slots.get()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptors);
  std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
  return ::sendmsg(socket, &message, 0) == sizeof told;
}

FuseServer::Legacy receive_legacy(int socket) {
  Told told{};
  iovec text{&told, sizeof told};
  std::array<int, 2> descriptors{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  REQUIRE(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == sizeof told);
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  REQUIRE(header != nullptr);
  std::memcpy(descriptors.data(), CMSG_DATA(header), sizeof descriptors);
  return {Fd(descriptors[0]), Fd(descriptors[1]), told.mount_point, told.connection};
}

/// Whoever waits for a session without a server waits where no signal reaches it: ends that, however a test
/// ends.
struct AbortGuard {
  const FuseServer::Legacy& legacy;
  ~AbortGuard() {
    const auto mount = FuseMount::adopt(Fd(), legacy.mount_point, legacy.connection);
    static_cast<void>(mount->abort().ok());
    mount->release();
  }
};

FuseServer::Legacy copy_of(const FuseServer::Legacy& legacy) {
  return {Fd(::fcntl(legacy.fuse.get(), F_DUPFD_CLOEXEC, 0)),
          Fd(::fcntl(legacy.slots.get(), F_DUPFD_CLOEXEC, 0)), legacy.mount_point, legacy.connection};
}

FuseServer::Options options_for(const std::string& mount_point, const std::string& backing) {
  auto device = FileDevice::open(backing, {});
  if (!device.ok()) ::_exit(10);
  return {.mount_point = mount_point,
          .file_name = "volume",
          .device = std::shared_ptr<BlockDevice>(std::move(*device)),
          .threads = 4};
}

void serve_until_killed() {
  for (;;) ::pause();
}

struct alignas(kBlockBytes) Block {
  std::array<uint64_t, kBlockBytes / sizeof(uint64_t)> words;
  void stamp(uint64_t block, uint64_t sequence) { words.fill(block << 32 | sequence); }
  bool is(uint64_t block, uint64_t sequence) const {
    Block expected;
    expected.stamp(block, sequence);
    return sequence == 0 ? true : words == expected.words;
  }
};

/// Writes and reads blocks of its own until `stop` can be read, then reads them all. 0: every answer was
/// right and there were many.
int write_and_check(const std::string& device, int writer, int stop) {
  const Fd fd(::open(device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!fd) return 20;
  std::mt19937_64 random(static_cast<uint64_t>(writer));
  std::vector<uint64_t> newest(kBlocksEach, 0);
  const auto offset_of = [&](uint64_t block) {
    return static_cast<off_t>((static_cast<uint64_t>(writer) * kBlocksEach + block) * kBlockBytes);
  };
  Block block;
  const auto is_right = [&](uint64_t index) {
    return ::pread(fd.get(), &block, kBlockBytes, offset_of(index)) == kBlockBytes &&
           block.is(index, newest[index]);
  };
  uint64_t sequence = 0;
  pollfd end{stop, POLLIN, 0};
  while (::poll(&end, 1, 0) == 0) {
    const uint64_t index = random() % kBlocksEach;
    if (random() % 4 == 0) {
      if (!is_right(index)) return 21;
      continue;
    }
    block.stamp(index, ++sequence);
    if (::pwrite(fd.get(), &block, kBlockBytes, offset_of(index)) != kBlockBytes) return 22;
    newest[index] = sequence;
    if (sequence % 64 == 0 && ::fdatasync(fd.get()) != 0) return 23;
  }
  for (uint64_t index = 0; index < kBlocksEach; ++index)
    if (!is_right(index)) return 24;
  return sequence > 100 ? 0 : 25;
}

}  // namespace

TEST_CASE("a FUSE server that is killed under load, again and again, is not noticed by who uses its device") {
  bool resend = true;
  SUBCASE("where the kernel sends again what nobody answered") {}
  SUBCASE("where it does not") { resend = false; }
  NEEDS(can_attach(), "root, /dev/fuse and /dev/loop-control");
  const ScratchDirectory scratch;
  const std::string backing = scratch.make_file("volume.img", kVolumeBytes);
  const TemporaryDirectory mount_point;
  const MountGuard unmount(mount_point.path());
  int sockets[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
  const Fd mine(sockets[0]), theirs(sockets[1]);
  Child server([&] {
    const auto started = FuseServer::start(options_for(mount_point.path(), backing));
    if (!started.ok()) return 11;
    const auto legacy = (*started)->legacy();
    if (!legacy.ok() || !send_legacy(theirs.get(), *legacy)) return 12;
    serve_until_killed();
    return 0;
  });
  FuseServer::Legacy legacy = receive_legacy(mine.get());
  const auto device = attach_loop({.file = mount_point.path() + "/volume"});
  REQUIRE(device.ok());

  {
    Pipe stop;
    std::vector<Child> writers;
    for (int writer = 0; writer < kWriters; ++writer) {
      writers.emplace_back([&] {
        // A copy would keep the session alive whatever became of its servers.
        legacy.fuse.reset();
        return write_and_check(*device, writer, stop.read.get());
      });
    }
    const AbortGuard abort{legacy};
    std::mt19937 random(7);
    for (int kill = 0; kill < kKills; ++kill) {
      ::usleep(20'000 + random() % 100'000);
      server.kill();
      Pipe serving;
      server = Child([&] {
        FuseServer::Options options = options_for(mount_point.path(), backing);
        options.resend = resend;
        const auto resumed = FuseServer::resume(options, copy_of(legacy));
        if (!resumed.ok() || ::write(serving.write.get(), "", 1) != 1) return 13;
        serve_until_killed();
        return 0;
      });
      char byte = 1;
      serving.write.reset();
      const bool is_serving = ::read(serving.read.get(), &byte, 1) == 1;
      if (!is_serving) FAIL("the successor ended with status " << server.wait(1s));
    }
    ::usleep(50'000);
    REQUIRE(::write(stop.write.get(), "", 1) == 1);
    for (Child& writer : writers) CHECK(writer.wait(30s) == 0);
    CHECK(detach_loop(*device).ok());
  }
}
