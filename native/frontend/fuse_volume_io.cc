// The device's content through FUSE: read, write, punch, zero, flush.
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>

#include "frontend/fuse_exchange.h"

namespace afterimage {

void FuseSession::read(Exchange& exchange) {
  const auto wish = exchange.request.argument<fuse_read_in>();
  if (!wish || wish->size > exchange.read_buffer.size()) return exchange.reply_status(EINVAL);
  if (exchange.node() != kFuseFileNode) return exchange.reply_status(EISDIR);
  // A file answers with fewer bytes at its end, where a device refuses.
  const uint64_t left = device_->size() - std::min(device_->size(), wish->offset);
  const auto data = exchange.read_buffer.first(std::min<uint64_t>(wish->size, left));
  const Errno error = data.empty() ? 0 : device_->read(wish->offset, data.size(), data.data());
  if (error != 0) return exchange.reply_status(error);
  exchange.reply_data(data);
}

void FuseSession::write(Exchange& exchange) {
  const auto wish = exchange.request.argument<fuse_write_in>();
  if (!wish) return exchange.reply_status(EINVAL);
  const auto payload = exchange.request.payload(sizeof(fuse_write_in));
  if (payload.size() != wish->size || wish->size > kFuseIoBytesMax) return exchange.reply_status(EINVAL);
  if (exchange.node() != kFuseFileNode) return exchange.reply_status(EISDIR);
  if (read_only_) return exchange.reply_status(EROFS);
  const RequestOptions options{.fua = (wish->flags & O_DSYNC) != 0, .executed = exchange.slot.executed};
  const Errno error = device_->write(wish->offset, payload.size(), payload.data(), options);
  exchange.slot.mark_executed(error);
  if (error != 0) return exchange.reply_status(error);
  exchange.reply_argument(fuse_write_out{wish->size, 0});
}

void FuseSession::allocate(Exchange& exchange) {
  const auto wish = exchange.request.argument<fuse_fallocate_in>();
  if (!wish) return exchange.reply_status(EINVAL);
  if (exchange.node() != kFuseFileNode) return exchange.reply_status(EISDIR);
  if (read_only_) return exchange.reply_status(EROFS);
  const uint32_t mode = wish->mode & ~static_cast<uint32_t>(FALLOC_FL_KEEP_SIZE);  // the size never changes
  RequestOptions options{.executed = exchange.slot.executed};
  Errno error = EOPNOTSUPP;
  if (mode == FALLOC_FL_PUNCH_HOLE) {
    error = device_->trim(wish->offset, wish->length, options);
  } else if (mode == FALLOC_FL_ZERO_RANGE) {
    options.no_hole = true;
    error = device_->zero(wish->offset, wish->length, options);
  }
  exchange.slot.mark_executed(error);
  exchange.reply_status(error);
}

void FuseSession::sync(Exchange& exchange) {
  if (!exchange.request.argument<fuse_fsync_in>()) return exchange.reply_status(EINVAL);
  if (exchange.node() != kFuseFileNode) return exchange.reply_status(EISDIR);
  exchange.reply_status(device_->flush());
}

}  // namespace afterimage
