// FuseSession: the answers of a FUSE file system that holds one regular file, the device. It takes the bytes
// of a request and gives the bytes of its reply to a sink; reading /dev/fuse and mounting are not its job, so
// that tests and the fuzzer feed it without a kernel.
//
// Threads: serve() from any number of threads at once, each with its own slot and read buffer.
// Ownership: shares the device. Keeps nothing of a request after serve() has returned.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "device/block_device.h"
#include "frontend/fuse_request.h"
#include "frontend/request_slots.h"

namespace afterimage {

constexpr uint32_t kFuseMinorMin = 31;          // Linux 5.4
constexpr uint32_t kFuseIoBytesMax = 1u << 20;  // of one READ or WRITE
constexpr uint32_t kFuseIoPagesMax = kFuseIoBytesMax / 4096;
constexpr uint32_t kFusePayloadOffset = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr uint32_t kFuseRequestBytesMax = kFusePayloadOffset + kFuseIoBytesMax;
static_assert(kFuseRequestBytesMax >= FUSE_MIN_READ_BUFFER,
              "the kernel refuses to read into a smaller buffer");

/// Where replies go.
class FuseReplySink {
 public:
  virtual ~FuseReplySink() = default;
  /// One whole reply: `head` begins with its fuse_out_header, whose length covers `data` too. Returns 0 or
  /// the errno with which it was refused.
  virtual Errno reply(std::span<const std::byte> head, std::span<const std::byte> data) = 0;
};

class FuseSession {
 public:
  FuseSession(std::shared_ptr<BlockDevice> device, std::string file_name, bool read_only);

  /// By each thread, before its first request. Errors: ENOMEM.
  Errno prepare_thread() { return device_->prepare_thread(); }
  /// Carries out the request that lies in the first `request_bytes` of the slot, marks the slot executed if
  /// it modified the device, and replies. `read_buffer` holds kFuseIoBytesMax bytes. Does not free the slot.
  void serve(const RequestSlots::Slot& slot, size_t request_bytes, std::span<std::byte> read_buffer,
             FuseReplySink& sink);

  /// Finishes what a predecessor had read into the slot: answers it as it was marked, or carries it out. The
  /// kernel refuses a second answer, so that one more does no harm. Does not free the slot.
  void finish(const RequestSlots::Slot& slot, std::span<std::byte> read_buffer, FuseReplySink& sink);

  /// The version and flags are agreed.
  bool is_initialized() const { return initialized_.load(std::memory_order_acquire); }
  /// The minor version that the kernel offered, 0 before INIT.
  uint32_t kernel_minor() const { return kernel_minor_.load(std::memory_order_acquire); }

 private:
  struct Exchange;

  // fuse_session.cc
  void dispatch(Exchange& exchange);
  void init(Exchange& exchange);
  // fuse_namespace.cc: the directory with its one file
  void lookup(Exchange& exchange) const;
  void get_attributes(Exchange& exchange) const;
  void set_attributes(Exchange& exchange) const;
  void open(Exchange& exchange) const;
  void open_directory(Exchange& exchange) const;
  void read_directory(Exchange& exchange) const;
  void file_system_size(Exchange& exchange) const;
  bool describe(uint64_t node, fuse_attr* attributes) const;
  // fuse_volume_io.cc: the device
  void read(Exchange& exchange);
  void write(Exchange& exchange);
  void allocate(Exchange& exchange);
  void sync(Exchange& exchange);

  const std::shared_ptr<BlockDevice> device_;
  const std::string file_name_;
  const bool read_only_;
  const uint64_t started_s_;  // every time stamp of the file system
  std::atomic<bool> initialized_{false};
  std::atomic<uint32_t> kernel_minor_{0};
};

}  // namespace afterimage
