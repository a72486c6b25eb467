// FuseRequest: one request of the FUSE protocol (include/uapi/linux/fuse.h), every length checked against
// what was really read before it is used. The kernel is not an enemy, but a mistaken length must not become
// memory damage.
//
// Threads: a plain view. Ownership: the bytes belong to the caller and outlive the view.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace afterimage {

class FuseRequest {
 public:
  /// Empty if the bytes are no whole request: shorter than a header, or of another length than the header
  /// says.
  static std::optional<FuseRequest> parse(std::span<const std::byte> bytes);

  const fuse_in_header& header() const { return header_; }
  /// False for the requests that the protocol does not answer.
  bool expects_reply() const;

  /// The fixed argument; empty if the request is too short for it.
  template <typename Argument>
  std::optional<Argument> argument() const {
    return prefix<Argument>(sizeof(Argument));
  }
  /// The same, of a structure that has grown: at least `bytes_min` are there, fields beyond the request read
  /// as zero.
  template <typename Argument>
  std::optional<Argument> prefix(size_t bytes_min) const {
    if (body_.size() < bytes_min) return std::nullopt;
    Argument argument{};
    std::memcpy(&argument, body_.data(), body_.size() < sizeof argument ? body_.size() : sizeof argument);
    return argument;
  }
  /// What follows a fixed argument of `argument_bytes`; the request was checked to hold that.
  std::span<const std::byte> payload(size_t argument_bytes) const { return body_.subspan(argument_bytes); }
  /// The whole body as a name; empty unless it is a non-empty string that ends with its only zero byte.
  std::optional<std::string_view> name() const;

 private:
  FuseRequest(const fuse_in_header& header, std::span<const std::byte> body) : header_(header), body_(body) {}
  fuse_in_header header_;
  std::span<const std::byte> body_;  // after the header, without extensions
};

}  // namespace afterimage
