// Building FUSE requests and taking replies apart, for the tests and the fuzzer of FuseSession.
#pragma once

#include <linux/fuse.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "frontend/fuse_session.h"

namespace afterimage::test {

using Bytes = std::vector<std::byte>;

template <typename T>
void append(Bytes* bytes, const T& value) {
  const auto* const from = reinterpret_cast<const std::byte*>(&value);
  bytes->insert(bytes->end(), from, from + sizeof value);
}

inline Bytes fuse_message(uint32_t opcode, uint64_t node, const Bytes& body, uint64_t unique = 7) {
  fuse_in_header header{};
  header.len = static_cast<uint32_t>(sizeof header + body.size());
  header.opcode = opcode;
  header.unique = unique;
  header.nodeid = node;
  Bytes message;
  append(&message, header);
  message.insert(message.end(), body.begin(), body.end());
  return message;
}

template <typename Argument>
Bytes fuse_body(const Argument& argument, const Bytes& payload = {}) {
  Bytes body;
  append(&body, argument);
  body.insert(body.end(), payload.begin(), payload.end());
  return body;
}

inline Bytes fuse_name(std::string_view name) {
  const auto* const from = reinterpret_cast<const std::byte*>(name.data());
  Bytes body(from, from + name.size());
  body.push_back(std::byte{0});
  return body;
}

/// Collects replies, and notes what the slot's marks said when each was sent.
class CollectingSink final : public FuseReplySink {
 public:
  struct Reply {
    fuse_out_header header{};
    Bytes body;
    uint32_t executed = 0;
    Errno answer = 0;
  };
  explicit CollectingSink(const RequestSlots::Slot& slot) : slot_(slot) {}
  std::vector<Reply> replies;
  Errno refuse_next = 0;

  Errno reply(std::span<const std::byte> head, std::span<const std::byte> data) override {
    if (const Errno refused = std::exchange(refuse_next, 0)) return refused;
    Reply reply;
    std::memcpy(&reply.header, head.data(), sizeof reply.header);
    reply.body.assign(head.begin() + sizeof reply.header, head.end());
    reply.body.insert(reply.body.end(), data.begin(), data.end());
    reply.executed = slot_.executed->load();
    reply.answer = slot_.answer->load();
    replies.push_back(std::move(reply));
    return 0;
  }

 private:
  const RequestSlots::Slot slot_;
};

}  // namespace afterimage::test
