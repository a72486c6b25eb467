#include "os/generic_netlink.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "os/assert.h"

namespace afterimage {
namespace {

/// Of one answer. The kernel's to these commands are far shorter; what is longer is cut off by recv().
constexpr size_t kAnswerBytesMax = 4096;
constexpr size_t kHeadBytes = NLMSG_HDRLEN + GENL_HDRLEN;
constexpr uint8_t kVersion = 1;

template <typename Header>
Header load(const std::byte* from) {
  Header header;
  std::memcpy(&header, from, sizeof header);
  return header;
}

/// The integer in the attribute of that type; false if there is none.
bool find_integer(std::span<const std::byte> attributes, uint16_t type, uint32_t* value) {
  while (attributes.size() >= NLA_HDRLEN) {
    const auto header = load<nlattr>(attributes.data());
    if (header.nla_len < NLA_HDRLEN || header.nla_len > attributes.size()) return false;
    const size_t bytes = header.nla_len - NLA_HDRLEN;
    const std::byte* const payload = attributes.data() + NLA_HDRLEN;
    if ((header.nla_type & NLA_TYPE_MASK) == type) {
      if (bytes == sizeof(uint16_t)) *value = load<uint16_t>(payload);
      if (bytes == sizeof(uint32_t)) *value = load<uint32_t>(payload);
      return bytes == sizeof(uint16_t) || bytes == sizeof(uint32_t);
    }
    attributes = attributes.subspan(std::min<size_t>(NLA_ALIGN(header.nla_len), attributes.size()));
  }
  return false;
}

}  // namespace

NetlinkCommand::NetlinkCommand(uint8_t command) {
  const genlmsghdr head{.cmd = command, .version = kVersion, .reserved = 0};
  std::memcpy(bytes_.data() + NLMSG_HDRLEN, &head, sizeof head);
  used_ = kHeadBytes;
}

std::byte* NetlinkCommand::append(uint16_t type, size_t bytes) {
  AFTERIMAGE_ASSERT(used_ + NLA_ALIGN(NLA_HDRLEN + bytes) <= kBytesMax, "a command that fits");
  const nlattr header{.nla_len = static_cast<uint16_t>(NLA_HDRLEN + bytes), .nla_type = type};
  std::memcpy(bytes_.data() + used_, &header, sizeof header);
  std::byte* const payload = bytes_.data() + used_ + NLA_HDRLEN;
  used_ += NLA_ALIGN(NLA_HDRLEN + bytes);
  return payload;
}

NetlinkCommand& NetlinkCommand::u32(uint16_t type, uint32_t value) {
  std::memcpy(append(type, sizeof value), &value, sizeof value);
  return *this;
}

NetlinkCommand& NetlinkCommand::u64(uint16_t type, uint64_t value) {
  std::memcpy(append(type, sizeof value), &value, sizeof value);
  return *this;
}

NetlinkCommand& NetlinkCommand::text(uint16_t type, std::string_view value) {
  std::memcpy(append(type, value.size() + 1), value.data(), value.size());  // zeroes lie behind it
  return *this;
}

NetlinkCommand& NetlinkCommand::begin(uint16_t type) {
  AFTERIMAGE_ASSERT(depth_ < kDepthMax, "attributes within each other that fit");
  open_[depth_++] = used_;
  append(type | NLA_F_NESTED, 0);
  return *this;
}

NetlinkCommand& NetlinkCommand::end() {
  AFTERIMAGE_ASSERT(depth_ > 0, "an end for each begin");
  const size_t begin = open_[--depth_];
  auto header = load<nlattr>(bytes_.data() + begin);
  header.nla_len = static_cast<uint16_t>(used_ - begin);
  std::memcpy(bytes_.data() + begin, &header, sizeof header);
  return *this;
}

Errno GenericNetlink::open(std::string_view family, GenericNetlink* into) {
  into->socket_.reset(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!into->socket_) return errno;
  into->family_ = GENL_ID_CTRL;
  NetlinkCommand command(CTRL_CMD_GETFAMILY);
  command.text(CTRL_ATTR_FAMILY_NAME, family);
  uint32_t id = 0;
  const Errno error = into->ask(command, CTRL_ATTR_FAMILY_ID, &id);
  into->family_ = static_cast<uint16_t>(id);
  return error;
}

Errno GenericNetlink::carry_out(NetlinkCommand& command) { return transact(command, 0, nullptr, nullptr); }

Errno GenericNetlink::ask(NetlinkCommand& command, uint16_t type, uint32_t* value) {
  bool found = false;
  if (const Errno error = transact(command, type, value, &found)) return error;
  return found ? 0 : ENOMSG;
}

Errno GenericNetlink::transact(NetlinkCommand& command, uint16_t type, uint32_t* value, bool* found) {
  const nlmsghdr head{.nlmsg_len = static_cast<uint32_t>(command.used_),
                      .nlmsg_type = family_,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
                      .nlmsg_seq = ++sequence_,
                      .nlmsg_pid = 0};
  std::memcpy(command.bytes_.data(), &head, sizeof head);
  if (::send(socket_.get(), command.bytes_.data(), command.used_, 0) < 0) return errno;
  alignas(nlmsghdr) std::array<std::byte, kAnswerBytesMax> answer;
  for (;;) {
    const ssize_t count = ::recv(socket_.get(), answer.data(), answer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    std::span<const std::byte> rest = std::span(answer).first(static_cast<size_t>(count));
    while (rest.size() >= NLMSG_HDRLEN) {
      const auto message = load<nlmsghdr>(rest.data());
      if (message.nlmsg_len < NLMSG_HDRLEN || message.nlmsg_len > rest.size()) return EBADMSG;
      const auto body = rest.first(message.nlmsg_len);
      rest = rest.subspan(std::min<size_t>(NLMSG_ALIGN(message.nlmsg_len), rest.size()));
      if (message.nlmsg_seq != sequence_) continue;  // the answer to a command that was given up
      if (message.nlmsg_type == NLMSG_ERROR) {
        if (body.size() < NLMSG_HDRLEN + sizeof(int)) return EBADMSG;
        return -load<int>(body.data() + NLMSG_HDRLEN);
      }
      if (found != nullptr && message.nlmsg_type == family_ && body.size() >= kHeadBytes)
        *found = find_integer(body.subspan(kHeadBytes), type, value);
    }
  }
}

}  // namespace afterimage
