#include "supervisor/notify_listener.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace afterimage {
namespace {

constexpr size_t kTextBytesMax = 4096;
constexpr size_t kDescriptorsMax = 16;  // of one message

}  // namespace

Result<NotifyListener> NotifyListener::open() {
  const auto failed = [](const char* what) { return system_error("NOTIFY_FAILED", what, errno); };
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return failed("socket");
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) return failed("SO_PASSCRED");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t bytes = sizeof address;
  // No name given: the kernel chooses one in the abstract namespace.
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address.sun_family) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0)
    return failed("bind");
  constexpr size_t kNameOffset =
      offsetof(sockaddr_un, sun_path) + 1;  // after the zero byte that says abstract
  if (bytes <= kNameOffset) return system_error("NOTIFY_FAILED", "bind", EADDRNOTAVAIL);
  std::string name = "@";
  name.append(address.sun_path + 1, bytes - kNameOffset);
  return NotifyListener(std::move(socket), std::move(name));
}

bool NotifyListener::receive(pid_t sender, Message* message) const {
  for (;;) {
    std::array<char, kTextBytesMax> text;
    iovec into{text.data(), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kDescriptorsMax * sizeof(int))>
        control;
    msghdr header{};
    header.msg_iov = &into;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t bytes = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return false;

    message->descriptors.clear();
    pid_t from = 0;
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
      if (part->cmsg_level != SOL_SOCKET) continue;
      if (part->cmsg_type == SCM_CREDENTIALS && part->cmsg_len == CMSG_LEN(sizeof(ucred))) {
        ucred credentials;
        std::memcpy(&credentials, CMSG_DATA(part), sizeof credentials);
        from = credentials.pid;
      } else if (part->cmsg_type == SCM_RIGHTS) {
        for (size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
          int descriptor = -1;
          std::memcpy(&descriptor, CMSG_DATA(part) + at, sizeof descriptor);
          message->descriptors.emplace_back(descriptor);
        }
      }
    }
    if (from != sender || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) continue;
    message->text.assign(text.data(), static_cast<size_t>(bytes));
    return true;
  }
}

}  // namespace afterimage
