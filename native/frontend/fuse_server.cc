#include "frontend/fuse_server.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "frontend/fuse_mount.h"
#include "frontend/fuse_session.h"
#include "os/io_thread.h"

namespace afterimage {
namespace {

constexpr size_t kFileNameBytesMax = 255;
constexpr std::chrono::milliseconds kReadRetryPause{10};
constexpr int32_t kNotifyResend = 7;  // FUSE_NOTIFY_RESEND, 7.40: newer than the headers of Debian 12

class DescriptorSink final : public FuseReplySink {
 public:
  explicit DescriptorSink(int fuse) : fuse_(fuse) {}
  Errno reply(std::span<const std::byte> head, std::span<const std::byte> data) override {
    // The kernel takes a reply whole or not at all.
    std::array<iovec, 2> parts{{{const_cast<std::byte*>(head.data()), head.size()},
                                {const_cast<std::byte*>(data.data()), data.size()}}};
    return ::writev(fuse_, parts.data(), data.empty() ? 1 : 2) < 0 ? errno : 0;
  }

 private:
  const int fuse_;
};

/// The next request, into a slot that was freed first: its bytes, or an errno as a negative number.
ssize_t read_request(int fuse, const RequestSlots::Slot& slot) {
  slot.free();
  const ssize_t bytes = ::read(fuse, slot.buffer, slot.buffer_bytes);
  return bytes < 0 ? -errno : bytes;
}

bool is_file_name(const std::string& name) {
  return !name.empty() && name.size() <= kFileNameBytesMax && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

FuseServer::FuseServer(const Options& options, std::unique_ptr<RequestSlots> slots,
                       std::vector<PinnedMemory> read_buffers)
    : session_(std::make_unique<FuseSession>(options.device, options.file_name, options.read_only)),
      slots_(std::move(slots)),
      read_buffers_(std::move(read_buffers)) {}

Result<std::unique_ptr<FuseServer>> FuseServer::start(const Options& options) {
  if (options.threads == 0 || options.threads > kFuseThreadsMax || !is_file_name(options.file_name))
    return system_error("FUSE_MOUNT", "options of the FUSE server", EINVAL);
  auto slots = RequestSlots::create(options.threads, kFuseRequestBytesMax, kFusePayloadOffset);
  if (!slots.ok()) return slots.error();
  auto read_buffers = make_read_buffers(options.threads);
  if (!read_buffers.ok()) return read_buffers.error();
  std::unique_ptr<FuseServer> server(new FuseServer(options, std::move(*slots), std::move(*read_buffers)));
  auto mount = FuseMount::mount(options.mount_point, options.read_only || options.device->read_only());
  if (!mount.ok()) return mount.error();
  server->mount_ = std::move(*mount);
  if (const Outcome agreed = server->negotiate(); !agreed.ok()) return agreed.error();
  if (const Outcome started = server->start_threads(); !started.ok()) return started.error();
  return server;
}

Result<std::unique_ptr<FuseServer>> FuseServer::resume(const Options& options, Legacy legacy) {
  auto slots = legacy.slots
                   ? RequestSlots::adopt(std::move(legacy.slots), kFuseRequestBytesMax, kFusePayloadOffset)
                   : RequestSlots::create(options.threads, kFuseRequestBytesMax, kFusePayloadOffset);
  if (!slots.ok()) return slots.error();
  auto read_buffers = make_read_buffers((*slots)->count());
  if (!read_buffers.ok()) return read_buffers.error();
  std::unique_ptr<FuseServer> server(new FuseServer(options, std::move(*slots), std::move(*read_buffers)));
  server->mount_ = FuseMount::adopt(std::move(legacy.fuse), std::move(legacy.mount_point), legacy.connection);
  server->finish_inherited(options.resend);
  // With fewer threads than there were it is served all the same.
  if (const Outcome started = server->start_threads(); !started.ok() && server->threads_.empty()) {
    // The session is not this one's to end: the next successor may do better.
    server->mount_->release();
    return started.error();
  }
  return server;
}

Result<FuseServer::Legacy> FuseServer::legacy() const {
  Legacy legacy{Fd(::fcntl(mount_->descriptor(), F_DUPFD_CLOEXEC, 0)),
                Fd(::fcntl(slots_->memfd(), F_DUPFD_CLOEXEC, 0)), mount_->mount_point(),
                mount_->connection()};
  if (!legacy.fuse || !legacy.slots)
    return system_error("FUSE_UNAVAILABLE", "descriptors of a FUSE session", errno);
  return legacy;
}

Result<std::vector<PinnedMemory>> FuseServer::make_read_buffers(uint32_t count) {
  std::vector<PinnedMemory> buffers;
  for (uint32_t i = 0; i < count; ++i) {
    auto buffer = PinnedMemory::allocate(kFuseIoBytesMax);
    if (!buffer.ok()) return buffer.error();
    buffers.push_back(std::move(*buffer));
  }
  return buffers;
}

/// INIT is always the first request of a session, and was queued before mount(2) returned.
Outcome FuseServer::negotiate() {
  DescriptorSink sink(mount_->descriptor());
  const RequestSlots::Slot slot = slots_->slot(0);
  constexpr int kExchangesMax = 2;  // the second after a kernel of a later major version was told ours
  for (int i = 0; i < kExchangesMax && !session_->is_initialized(); ++i) {
    const ssize_t bytes = read_request(mount_->descriptor(), slot);
    if (bytes < 0) return system_error("FUSE_MOUNT", "read of FUSE_INIT", static_cast<Errno>(-bytes));
    session_->serve(slot, static_cast<size_t>(bytes), read_buffers_[0].bytes(), sink);
    slot.free();
  }
  if (session_->is_initialized()) return Nothing{};
  return system_error("FUSE_MOUNT",
                      "the kernel speaks FUSE 7." + std::to_string(session_->kernel_minor()) +
                          ", needed is 7." + std::to_string(kFuseMinorMin),
                      EPROTO);
}

void FuseServer::finish_inherited(bool resend) {
  DescriptorSink sink(mount_->descriptor());
  session_->prepare_thread();
  for (uint32_t i = 0; i < slots_->count(); ++i) {
    const RequestSlots::Slot slot = slots_->slot(i);
    if (slot.is_occupied()) session_->finish(slot, read_buffers_[i].bytes(), sink);
    slot.free();
  }
  if (!resend) return;
  // A kernel that does not know it says EINVAL.
  const fuse_out_header again{sizeof again, kNotifyResend, 0};
  sink.reply(std::as_bytes(std::span(&again, 1)), {});
}

Outcome FuseServer::start_threads() {
  try {
    for (uint32_t i = 0; i < slots_->count(); ++i) {
      const std::lock_guard lock(mutex_);
      threads_.emplace_back(&FuseServer::run, this, i);
      ++running_;
    }
  } catch (const std::system_error& failure) {
    return system_error("FUSE_UNAVAILABLE", "start of a FUSE thread", failure.code().value());
  }
  return Nothing{};
}

FuseServer::~FuseServer() { stop(); }

void FuseServer::run(uint32_t index) {
  enter_io_thread("fuse-" + std::to_string(index));
  session_->prepare_thread();  // failed: requests that need what it could not make are answered ENOMEM
  DescriptorSink sink(mount_->descriptor());
  const RequestSlots::Slot slot = slots_->slot(index);
  const std::span<std::byte> read_buffer = read_buffers_[index].bytes();
  for (;;) {
    const ssize_t bytes = read_request(mount_->descriptor(), slot);
    if (bytes > 0) {
      session_->serve(slot, static_cast<size_t>(bytes), read_buffer, sink);
    } else if (bytes == -ENODEV) {  // unmounted, or aborted
      break;
    } else if (bytes != -EINTR && bytes != -EAGAIN && bytes != -ENOENT) {
      // ENOENT: the request was withdrawn while it was being read. Anything else is trouble that may pass,
      // and giving up would leave production waiting for ever.
      std::this_thread::sleep_for(kReadRetryPause);
    }
  }
  const std::lock_guard lock(mutex_);
  --running_;
  thread_ended_.notify_all();
}

void FuseServer::stop(std::chrono::milliseconds grace) {
  if (!mount_) return;
  mount_->unmount();
  std::unique_lock lock(mutex_);
  if (!thread_ended_.wait_for(lock, grace, [this] { return running_ == 0; })) {
    lock.unlock();
    // A refused abort leaves the threads serving: they end when the last user of the file does.
    static_cast<void>(mount_->abort().ok());
    lock.lock();
    thread_ended_.wait(lock, [this] { return running_ == 0; });
  }
  lock.unlock();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  session_.reset();  // and with it the share of the device
}

}  // namespace afterimage
