#include "os/notify_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

namespace afterimage {
namespace {

constexpr int kFirstDescriptor = 3;  // SD_LISTEN_FDS_START
constexpr size_t kNameBytesMax = 255;
constexpr size_t kSentAtOnceMax = 16;
constexpr unsigned kStoredMax = 4096;

Error failed(const std::string& what, Errno sys) {
  return system_error("NOTIFY_FAILED", "service manager: " + what, sys);
}

std::string_view variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

bool is_descriptor_name(const std::string& name) {
  const auto is_allowed = [](char c) { return c > ' ' && c < 127 && c != ':'; };
  return !name.empty() && name.size() <= kNameBytesMax && std::all_of(name.begin(), name.end(), is_allowed);
}

bool has_notify_socket() { return !variable("NOTIFY_SOCKET").empty(); }

Outcome notify(const std::string& assignments, std::span<const int> descriptors) {
  const std::string_view path = variable("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool is_path = !path.empty() && (path[0] == '/' || path[0] == '@');
  if (!is_path || path.size() >= sizeof address.sun_path || descriptors.size() > kSentAtOnceMax)
    return failed("NOTIFY_SOCKET", EINVAL);
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // in the abstract namespace

  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return failed("socket", errno);
  iovec text{const_cast<char*>(assignments.data()), assignments.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kSentAtOnceMax * sizeof(int))> control{};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) return failed("sendmsg", errno);
  return Nothing{};
}

Outcome store_descriptor(const std::string& name, int descriptor) {
  if (!is_descriptor_name(name)) return failed("descriptor name " + name, EINVAL);
  // FDPOLL=0: an aborted FUSE session or a closed socket must not vanish from the store by itself.
  return notify("FDSTORE=1\nFDNAME=" + name + "\nFDPOLL=0", std::span(&descriptor, 1));
}

Outcome forget_descriptor(const std::string& name) {
  if (!is_descriptor_name(name)) return failed("descriptor name " + name, EINVAL);
  return notify("FDSTOREREMOVE=1\nFDNAME=" + name);
}

Outcome await_notified(std::chrono::milliseconds patience) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed("pipe", errno);
  const Fd ours(ends[0]);
  Fd theirs(ends[1]);
  const int sent = theirs.get();
  if (const Outcome told = notify("BARRIER=1", std::span(&sent, 1)); !told.ok()) return told.error();
  theirs.reset();
  // Closed on the other side when everything before it was carried out.
  pollfd closed{ours.get(), 0, 0};
  const int events = ::poll(&closed, 1, static_cast<int>(patience.count()));
  if (events > 0) return Nothing{};
  return failed("no answer", events == 0 ? ETIMEDOUT : errno);
}

std::vector<StoredDescriptor> take_stored_descriptors() {
  std::vector<StoredDescriptor> taken;
  const std::optional<unsigned> pid = number(variable("LISTEN_PID"));
  const std::optional<unsigned> count = number(variable("LISTEN_FDS"));
  const std::string names(variable("LISTEN_FDNAMES"));
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  if (!pid || *pid != static_cast<unsigned>(::getpid()) || !count || *count > kStoredMax) return taken;
  std::string_view rest = names;
  for (unsigned i = 0; i < *count; ++i) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    std::string name(rest.substr(0, colon));
    rest.remove_prefix(std::min(colon + 1, rest.size()));
    const int descriptor = kFirstDescriptor + static_cast<int>(i);
    if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) continue;  // not open
    taken.push_back({std::move(name), Fd(descriptor)});
  }
  return taken;
}

}  // namespace afterimage
