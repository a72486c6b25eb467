#include "frontend/fuse_request.h"

namespace afterimage {
namespace {

constexpr size_t kExtensionUnitBytes = 8;  // of fuse_in_header.total_extlen

}  // namespace

std::optional<FuseRequest> FuseRequest::parse(std::span<const std::byte> bytes) {
  fuse_in_header header;
  if (bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.len != bytes.size()) return std::nullopt;
  const std::span<const std::byte> rest = bytes.subspan(sizeof header);
  const size_t extension_bytes = size_t{header.total_extlen} * kExtensionUnitBytes;
  if (extension_bytes > rest.size()) return std::nullopt;
  return FuseRequest(header, rest.first(rest.size() - extension_bytes));
}

bool FuseRequest::expects_reply() const {
  return header_.opcode != FUSE_FORGET && header_.opcode != FUSE_BATCH_FORGET &&
         header_.opcode != FUSE_INTERRUPT && header_.opcode != FUSE_NOTIFY_REPLY;
}

std::optional<std::string_view> FuseRequest::name() const {
  const std::string_view text(reinterpret_cast<const char*>(body_.data()), body_.size());
  if (text.size() < 2 || text.find('\0') != text.size() - 1) return std::nullopt;
  return text.substr(0, text.size() - 1);
}

}  // namespace afterimage
