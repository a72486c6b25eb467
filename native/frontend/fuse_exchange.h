// One request on its way through a FuseSession, and the one reply to it.
//
// Threads: lives on the stack of the thread that serves the request.
#pragma once

#include "frontend/fuse_session.h"

namespace afterimage {

constexpr uint64_t kFuseFileNode = FUSE_ROOT_ID + 1;

struct FuseSession::Exchange {
  const FuseRequest& request;
  const RequestSlots::Slot& slot;
  std::span<std::byte> read_buffer;
  FuseReplySink& sink;

  uint64_t node() const { return request.header().nodeid; }

  /// 0, or a positive errno.
  void reply_status(Errno error) const {
    // The kernel takes no other numbers as an error, and drops such a reply: the caller would wait for ever.
    constexpr Errno kErrnoMax = 511;
    if (error < 0 || error > kErrnoMax) error = EIO;
    const fuse_out_header header{sizeof header, -error, request.header().unique};
    sink.reply(std::as_bytes(std::span(&header, 1)), {});
  }
  template <typename Argument>
  void reply_argument(const Argument& argument) const {
    struct {
      fuse_out_header header;
      Argument argument;
    } const head{{sizeof head, 0, request.header().unique}, argument};
    static_assert(sizeof head == sizeof(fuse_out_header) + sizeof(Argument));
    sink.reply(std::as_bytes(std::span(&head, 1)), {});
  }
  void reply_data(std::span<const std::byte> data) const {
    const auto length = static_cast<uint32_t>(sizeof(fuse_out_header) + data.size());
    const fuse_out_header header{length, 0, request.header().unique};
    // A refused reply leaves the request unanswered; ENOENT says that nobody waits for it any more.
    const Errno refused = sink.reply(std::as_bytes(std::span(&header, 1)), data);
    if (refused != 0 && refused != ENOENT) reply_status(EIO);
  }
};

}  // namespace afterimage
