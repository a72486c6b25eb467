#include "frontend/fuse_session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>

#include "frontend/fuse_exchange.h"

namespace afterimage {
namespace {

// FUSE_WRITEBACK_CACHE must never be among them: writes would be acknowledged before they are seen. No flag
// of the upper 32 bits is wanted: FUSE_DIRECT_IO_ALLOW_MMAP would let the page cache in, FUSE_PASSTHROUGH and
// FUSE_OVER_IO_URING lead around the request slots, and FUSE_HAS_RESEND is a statement that needs no answer.
constexpr uint32_t kFlagsWanted =
    FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_ASYNC_DIO | FUSE_INIT_EXT;
static_assert((kFlagsWanted & FUSE_WRITEBACK_CACHE) == 0);

constexpr uint16_t kBackgroundMax = 64;  // asynchronous requests that the kernel hands out at once
constexpr size_t kInitBytesMin = offsetof(fuse_init_in, flags2);  // before 7.36

}  // namespace

FuseSession::FuseSession(std::shared_ptr<BlockDevice> device, std::string file_name, bool read_only)
    : device_(std::move(device)),
      file_name_(std::move(file_name)),
      read_only_(read_only || device_->read_only()),
      started_s_(static_cast<uint64_t>(::time(nullptr))) {}

void FuseSession::serve(const RequestSlots::Slot& slot, size_t request_bytes,
                        std::span<std::byte> read_buffer, FuseReplySink& sink) {
  // A request that cannot be told apart cannot be answered either; /dev/fuse never hands one out.
  const auto request = FuseRequest::parse({slot.buffer, std::min<size_t>(request_bytes, slot.buffer_bytes)});
  if (!request || !request->expects_reply()) return;
  Exchange exchange{*request, slot, read_buffer, sink};
  try {
    dispatch(exchange);
  } catch (const std::bad_alloc&) {
    // Thrown by the device, before anything was answered: the thread goes on, and with it production.
    exchange.reply_status(ENOMEM);
  }
}

void FuseSession::finish(const RequestSlots::Slot& slot, std::span<std::byte> read_buffer,
                         FuseReplySink& sink) {
  fuse_in_header header;
  std::memcpy(&header, slot.buffer, sizeof header);
  const size_t request_bytes = std::min<size_t>(header.len, slot.buffer_bytes);
  if (slot.executed->load(std::memory_order_acquire) == 0)
    return serve(slot, request_bytes, read_buffer, sink);
  const auto request = FuseRequest::parse({slot.buffer, request_bytes});
  if (!request) return;
  const Exchange exchange{*request, slot, read_buffer, sink};
  const Errno answer = slot.answer->load(std::memory_order_acquire);
  const auto write = request->argument<fuse_write_in>();
  if (answer == 0 && header.opcode == FUSE_WRITE && write)
    return exchange.reply_argument(fuse_write_out{write->size, 0});
  exchange.reply_status(answer);
}

void FuseSession::dispatch(Exchange& exchange) {
  switch (exchange.request.header().opcode) {
    case FUSE_READ:
      return read(exchange);
    case FUSE_WRITE:
      return write(exchange);
    case FUSE_FSYNC:
      return sync(exchange);
    case FUSE_FALLOCATE:
      return allocate(exchange);
    case FUSE_INIT:
      return init(exchange);
    case FUSE_LOOKUP:
      return lookup(exchange);
    case FUSE_GETATTR:
      return get_attributes(exchange);
    case FUSE_SETATTR:
      return set_attributes(exchange);
    case FUSE_OPEN:
      return open(exchange);
    case FUSE_OPENDIR:
      return open_directory(exchange);
    case FUSE_READDIR:
      return read_directory(exchange);
    case FUSE_STATFS:
      return file_system_size(exchange);
    case FUSE_FLUSH:  // close(2) promises no durability
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY:
      return exchange.reply_status(0);
    // FUSE_LSEEK among them: the kernel then answers SEEK_DATA and SEEK_HOLE as for a file without holes.
    default:
      return exchange.reply_status(ENOSYS);
  }
}

void FuseSession::init(Exchange& exchange) {
  const auto offer = exchange.request.prefix<fuse_init_in>(kInitBytesMin);
  if (!offer) return exchange.reply_status(EINVAL);
  kernel_minor_.store(offer->minor, std::memory_order_release);
  const bool is_newer_kernel =
      offer->major > FUSE_KERNEL_VERSION;  // it will ask again with our major version
  const bool is_older_kernel =
      offer->major < FUSE_KERNEL_VERSION || (!is_newer_kernel && offer->minor < kFuseMinorMin);
  if (is_older_kernel) return exchange.reply_status(EPROTO);

  fuse_init_out answer{};
  answer.major = FUSE_KERNEL_VERSION;
  answer.minor = FUSE_KERNEL_MINOR_VERSION;
  if (!is_newer_kernel) {
    answer.max_readahead = offer->max_readahead;
    answer.flags = offer->flags & kFlagsWanted;
    answer.max_background = kBackgroundMax;
    answer.congestion_threshold = kBackgroundMax;
    answer.max_write = kFuseIoBytesMax;
    answer.time_gran = 1;
    answer.max_pages = kFuseIoPagesMax;
    initialized_.store(true, std::memory_order_release);
  }
  exchange.reply_argument(answer);
}

}  // namespace afterimage
