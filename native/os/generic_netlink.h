// Generic netlink (Documentation/userspace-api/netlink): commands to a driver of the kernel, each answered at
// once. As much of it as the nbd driver needs; by hand, since what sends one while production waits must not
// allocate, and a host that is protected needs no library for three commands.
//
// Threads: one at a time per object. Ownership: GenericNetlink owns its socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

/// A command with its attributes, in the host's byte order.
class NetlinkCommand {
 public:
  explicit NetlinkCommand(uint8_t command);
  NetlinkCommand& u32(uint16_t type, uint32_t value);
  NetlinkCommand& u64(uint16_t type, uint64_t value);
  /// With a final zero.
  NetlinkCommand& text(uint16_t type, std::string_view value);
  /// What is added until the matching end() lies within an attribute of its own.
  NetlinkCommand& begin(uint16_t type);
  NetlinkCommand& end();

 private:
  friend class GenericNetlink;
  static constexpr size_t kBytesMax = 512;
  static constexpr size_t kDepthMax = 4;
  std::byte* append(uint16_t type, size_t bytes);

  alignas(4) std::array<std::byte, kBytesMax> bytes_{};
  size_t used_ = 0;
  std::array<size_t, kDepthMax> open_{};
  size_t depth_ = 0;
};

class GenericNetlink {
 public:
  /// To the family of that name. The errno of the kernel's answer, ENOENT where no driver has such a family.
  static Errno open(std::string_view family, GenericNetlink* into);
  /// Returns the errno of the kernel's answer, 0 when it has carried the command out.
  Errno carry_out(NetlinkCommand& command);
  /// And stores the attribute of that type which it answers with, an integer of 2 or 4 bytes. ENOMSG without
  /// one.
  Errno ask(NetlinkCommand& command, uint16_t type, uint32_t* value);

 private:
  Errno transact(NetlinkCommand& command, uint16_t type, uint32_t* value, bool* found);
  Fd socket_;
  uint16_t family_ = 0;
  uint32_t sequence_ = 0;
};

}  // namespace afterimage
