#include "frontend/nbd_device.h"

#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string_view>
#include <thread>

#include "frontend/nbd_protocol.h"
#include "os/fd.h"

namespace afterimage {
namespace {

constexpr std::string_view kPrefix = "/dev/nbd";
constexpr size_t kBackendBytesMax = 128;
constexpr int kDetachTriesMax = 20;
constexpr std::chrono::milliseconds kDetachRetryPause{50};

std::optional<uint32_t> index_of(std::string_view device) {
  if (!device.starts_with(kPrefix)) return std::nullopt;
  device.remove_prefix(kPrefix.size());
  uint32_t index = 0;
  const auto [end, error] = std::from_chars(device.data(), device.data() + device.size(), index);
  if (error != std::errc() || end != device.data() + device.size()) return std::nullopt;
  return index;
}

/// For requests of the kernel's client, which has no structured replies.
uint64_t server_flags(const NbdDeviceOptions& options) {
  const uint64_t flags = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua;
  return flags | (options.read_only ? nbd::kReadOnly : nbd::kSendTrim | nbd::kSendWriteZeroes);
}

void add_socket(NetlinkCommand* command, int socket) {
  command->begin(NBD_ATTR_SOCKETS)
      .begin(NBD_SOCK_ITEM)
      .u32(NBD_SOCK_FD, static_cast<uint32_t>(socket))
      .end()
      .end();
}

}  // namespace

Result<NbdDriver> NbdDriver::open() {
  NbdDriver driver;
  if (const Errno error = GenericNetlink::open(NBD_GENL_FAMILY_NAME, &driver.netlink_))
    return system_error("NBD_UNAVAILABLE", "the kernel's nbd driver", error);
  return driver;
}

Result<std::string> NbdDriver::connect(const NbdDeviceOptions& options, int socket) {
  if (options.backend.size() > kBackendBytesMax) return system_error("NBD_ATTACH", "a long name", EINVAL);
  NetlinkCommand command(NBD_CMD_CONNECT);
  command.u64(NBD_ATTR_SIZE_BYTES, options.size)
      .u64(NBD_ATTR_BLOCK_SIZE_BYTES, options.block_size)
      .u64(NBD_ATTR_SERVER_FLAGS, server_flags(options))
      .u64(NBD_ATTR_TIMEOUT, options.timeout_seconds)
      .u64(NBD_ATTR_DEAD_CONN_TIMEOUT, kNbdDeadConnectionSeconds)
      .text(NBD_ATTR_BACKEND_IDENTIFIER, options.backend);
  add_socket(&command, socket);
  uint32_t index = 0;
  if (const Errno error = netlink_.ask(command, NBD_ATTR_INDEX, &index))
    return system_error("NBD_ATTACH", "attach a socket to the nbd driver", error);
  return std::string(kPrefix) + std::to_string(index);
}

Errno NbdDriver::reconnect(const std::string& device, const std::string& backend, uint32_t timeout_seconds,
                           int socket) {
  const auto index = index_of(device);
  // The driver compares the name only where the device has one.
  if (const Errno error = check_nbd_owner(device, backend)) return error;
  NetlinkCommand command(NBD_CMD_RECONFIGURE);
  command.u32(NBD_ATTR_INDEX, *index)
      .u64(NBD_ATTR_TIMEOUT, timeout_seconds)
      .text(NBD_ATTR_BACKEND_IDENTIFIER, backend);
  add_socket(&command, socket);
  return netlink_.carry_out(command);
}

Outcome NbdDriver::resize(const std::string& device, const std::string& backend, uint64_t bytes) {
  const auto index = index_of(device);
  if (const Errno error = check_nbd_owner(device, backend))
    return system_error("DEVICE_RESIZE", "resize " + device, error);
  NetlinkCommand command(NBD_CMD_RECONFIGURE);
  command.u32(NBD_ATTR_INDEX, *index)
      .u64(NBD_ATTR_SIZE_BYTES, bytes)
      .text(NBD_ATTR_BACKEND_IDENTIFIER, backend);
  if (const Errno error = netlink_.carry_out(command))
    return system_error("DEVICE_RESIZE", "resize " + device, error);
  return Nothing{};
}

void NbdDriver::disconnect(const std::string& device, const std::string& backend) {
  const auto index = index_of(device);
  if (check_nbd_owner(device, backend) != 0) return;
  NetlinkCommand command(NBD_CMD_DISCONNECT);
  command.u32(NBD_ATTR_INDEX, *index);
  netlink_.carry_out(command);
}

Errno NbdDriver::set_flags(uint32_t index, const std::string& backend, uint64_t client_flags) {
  NetlinkCommand command(NBD_CMD_RECONFIGURE);
  command.u32(NBD_ATTR_INDEX, index)
      .u64(NBD_ATTR_CLIENT_FLAGS, client_flags)
      .text(NBD_ATTR_BACKEND_IDENTIFIER, backend);
  return netlink_.carry_out(command);
}

Outcome NbdDriver::detach(const std::string& device, const std::string& backend) {
  const auto index = index_of(device);
  if (!index) return system_error("NBD_DETACH", device, EINVAL);
  const auto gone_or = [&device](Errno error) -> Outcome {
    if (error == ENODEV) return Nothing{};
    return system_error("NBD_DETACH", "look who has " + device, error);
  };
  // NBD_CMD_DISCONNECT would take it from whoever uses it. What tells is the last close of all: the driver is
  // asked to detach then, and where others have the device open it is asked not to any more.
  for (int i = 0; i < kDetachTriesMax; ++i) {
    if (i > 0) std::this_thread::sleep_for(kDetachRetryPause);
    if (const Errno error = check_nbd_owner(device, backend)) return gone_or(error);
    // O_EXCL is refused while it is mounted, which will not pass: nothing to wait for.
    Fd opened(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (!opened) return system_error(errno == EBUSY ? "NBD_BUSY" : "NBD_DETACH", "open " + device, errno);
    if (const Errno error = set_flags(*index, backend, NBD_CFLAG_DISCONNECT_ON_CLOSE))
      return system_error("NBD_DETACH", "detach " + device, error);
    opened.reset();
    if (check_nbd_owner(device, backend) == ENODEV) return Nothing{};
    const Errno error = set_flags(*index, backend, 0);
    if (error != 0 && check_nbd_owner(device, backend) != ENODEV)
      return system_error("NBD_DETACH", "keep " + device, error);
  }
  return system_error("NBD_BUSY", "detach " + device, EBUSY);
}

Errno check_nbd_owner(const std::string& device, const std::string& backend) {
  const auto index = index_of(device);
  if (!index) return ENODEV;
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/sys/block/nbd%u/backend", *index);
  const Fd file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  // Only attached devices have it.
  if (!file) return errno == ENOENT ? ENODEV : errno;
  std::array<char, kBackendBytesMax + 2> text{};
  const ssize_t count = ::read(file.get(), text.data(), text.size());
  if (count < 0) return errno;  // ENODEV: it was detached meanwhile
  std::string_view found(text.data(), static_cast<size_t>(count));
  if (found.ends_with('\n')) found.remove_suffix(1);
  return found == backend ? 0 : ENODEV;
}

}  // namespace afterimage
