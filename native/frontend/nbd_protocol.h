// The NBD protocol's numbers and byte order (the NetworkBlockDevice project's doc/proto.md). All integers are
// big-endian. Only what NbdServer speaks.
//
// Threads: plain values.
#pragma once

#include <endian.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "os/result.h"

namespace afterimage::nbd {

// Handshake.
constexpr uint64_t kServerMagic = 0x4e42444d41474943;  // "NBDMAGIC"
constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
constexpr uint16_t kHandshakeFixedNewstyle = 1 << 0;
constexpr uint16_t kHandshakeNoZeroes = 1 << 1;
constexpr uint32_t kOptionExportName = 1;
constexpr uint32_t kOptionAbort = 2;
constexpr uint32_t kOptionList = 3;
constexpr uint32_t kOptionInfo = 6;
constexpr uint32_t kOptionGo = 7;
constexpr uint32_t kOptionStructuredReply = 8;
constexpr uint32_t kOptionListMetaContext = 9;
constexpr uint32_t kOptionSetMetaContext = 10;
constexpr uint32_t kReplyAck = 1;
constexpr uint32_t kReplyServer = 2;
constexpr uint32_t kReplyInfo = 3;
constexpr uint32_t kReplyMetaContext = 4;
constexpr uint32_t kReplyErrorUnsupported = 0x80000001;
constexpr uint32_t kReplyErrorInvalid = 0x80000003;
constexpr uint32_t kReplyErrorUnknown = 0x80000006;
constexpr uint32_t kReplyErrorTooBig = 0x80000009;
constexpr uint16_t kInfoExport = 0;
constexpr uint16_t kInfoName = 1;
constexpr uint16_t kInfoDescription = 2;
constexpr uint16_t kInfoBlockSize = 3;

// Transmission flags.
constexpr uint16_t kHasFlags = 1 << 0;
constexpr uint16_t kReadOnly = 1 << 1;
constexpr uint16_t kSendFlush = 1 << 2;
constexpr uint16_t kSendFua = 1 << 3;
constexpr uint16_t kSendTrim = 1 << 5;
constexpr uint16_t kSendWriteZeroes = 1 << 6;
constexpr uint16_t kSendDontFragment = 1 << 7;
constexpr uint16_t kCanMultiConnection = 1 << 8;
constexpr uint16_t kSendFastZero = 1 << 11;

// Requests.
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
constexpr uint16_t kRead = 0;
constexpr uint16_t kWrite = 1;
constexpr uint16_t kDisconnect = 2;
constexpr uint16_t kFlush = 3;
constexpr uint16_t kTrim = 4;
constexpr uint16_t kWriteZeroes = 6;
constexpr uint16_t kBlockStatus = 7;
constexpr uint16_t kFlagFua = 1 << 0;
constexpr uint16_t kFlagNoHole = 1 << 1;
constexpr uint16_t kFlagDontFragment = 1 << 2;
constexpr uint16_t kFlagRequestOne = 1 << 3;
constexpr uint16_t kFlagFastZero = 1 << 4;

// Structured reply chunks.
constexpr uint16_t kChunkDone = 1 << 0;
constexpr uint16_t kChunkNone = 0;
constexpr uint16_t kChunkOffsetData = 1;
constexpr uint16_t kChunkOffsetHole = 2;
constexpr uint16_t kChunkBlockStatus = 5;
constexpr uint16_t kChunkError = (1 << 15) + 1;

// base:allocation.
constexpr char kAllocationContext[] = "base:allocation";
constexpr uint32_t kAllocationContextId = 1;
constexpr uint32_t kStateHole = 1 << 0;
constexpr uint32_t kStateZero = 1 << 1;

constexpr uint32_t kRequestBytes = 28;
constexpr uint32_t kStringBytesMax = 4096;  // of names and other strings, as the protocol limits them

template <typename Integer>
Integer load(const std::byte* from) {
  Integer value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (sizeof value == 8) return be64toh(value);
  if constexpr (sizeof value == 4) return be32toh(value);
  if constexpr (sizeof value == 2) return be16toh(value);
}

/// Stores `value` and returns the place behind it.
template <typename Integer>
std::byte* store(std::byte* into, Integer value) {
  static_assert(sizeof value == 8 || sizeof value == 4 || sizeof value == 2);
  if constexpr (sizeof value == 8) value = htobe64(value);
  if constexpr (sizeof value == 4) value = htobe32(value);
  if constexpr (sizeof value == 2) value = htobe16(value);
  std::memcpy(into, &value, sizeof value);
  return into + sizeof value;
}

struct Request {
  uint16_t flags;
  uint16_t type;
  uint64_t cookie;  // the client's, returned as it came
  uint64_t offset;
  uint32_t length;
};

/// False if these bytes do not begin a request: the stream is out of step and cannot be followed further.
inline bool parse_request(const std::byte* from, Request* request) {
  if (load<uint32_t>(from) != kRequestMagic) return false;
  *request = {load<uint16_t>(from + 4), load<uint16_t>(from + 6), load<uint64_t>(from + 8),
              load<uint64_t>(from + 16), load<uint32_t>(from + 24)};
  return true;
}

/// The protocol has its own few error numbers; what it lacks becomes EIO, which every client treats as a
/// failed request.
inline uint32_t wire_error(Errno error) {
  switch (error) {
    case 0:
      return 0;
    case EPERM:
    case EROFS:
      return 1;
    case ENOMEM:
      return 12;
    case EINVAL:
      return 22;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return 28;
    case EOVERFLOW:
      return 75;
    case ENOTSUP:
      return 95;
    case ESHUTDOWN:
      return 108;
    default:
      return 5;
  }
}

}  // namespace afterimage::nbd
