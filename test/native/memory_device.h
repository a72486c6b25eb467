// A BlockDevice in memory, as the backing of tests: it holds what was really written, can be told to fail,
// and takes its time between its own work and its return, so that what happens in the wrong order is seen.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "device/block_device.h"

namespace afterimage {

class MemoryDevice final : public BlockDevice {
 public:
  explicit MemoryDevice(uint64_t size) : content_(size) {}

  uint64_t size() const override { return content_.size(); }
  uint32_t block_size() const override { return kSectorBytes; }
  bool read_only() const override { return false; }

  Errno read(uint64_t offset, uint64_t length, std::byte* into) override {
    if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
    if (const Errno error = read_error) return error;
    const std::lock_guard lock(mutex_);
    if (length > 0) std::memcpy(into, content_.data() + offset, length);
    return 0;
  }
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override {
    if (const Errno error = check_range(size(), offset, length, ENOSPC)) return error;
    fua_writes += options.fua;
    if (before_write) before_write();
    // A failing disk has written a part.
    const Errno error = write_error;
    copy(offset, error != 0 ? length / 2 : length, from);
    if (after_write) after_write();
    return error;
  }
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    if (const Errno error = check_range(size(), offset, length, ENOSPC)) return error;
    if (options.fast_only) return ENOTSUP;
    if (const Errno error = write_error) return error;
    copy(offset, length, nullptr);
    return 0;
  }
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions&) override {
    if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
    if (const Errno error = write_error) return error;
    copy(offset, length, nullptr);
    return 0;
  }
  Errno flush() override {
    ++flushes;
    return flush_error;
  }
  bool has_flush_failed() const override { return lost_writes; }
  Errno allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) override {
    if (!is_hole) return BlockDevice::allocation(offset, length, extents);
    *extents = {{length, true, true}};
    return 0;
  }
  void forget_cached() override { ++forgotten; }

  std::vector<std::byte> content() const {
    const std::lock_guard lock(mutex_);
    return content_;
  }

  std::atomic<Errno> read_error{0}, write_error{0}, flush_error{0};
  std::atomic<bool> lost_writes{false};
  std::atomic<int> fua_writes{0}, flushes{0}, forgotten{0};
  bool is_hole = false;                             // all of it
  std::function<void()> before_write, after_write;  // set before the device is shared
  bool dawdles = false;                             // likewise

 private:
  void copy(uint64_t offset, uint64_t length, const std::byte* from) {
    if (length == 0) return;
    {
      const std::lock_guard lock(mutex_);
      if (from != nullptr) {
        std::memcpy(content_.data() + offset, from, length);
      } else {
        std::memset(content_.data() + offset, 0, length);
      }
    }
    if (dawdles && calls_.fetch_add(1) % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }

  mutable std::mutex mutex_;
  std::vector<std::byte> content_;
  std::atomic<uint32_t> calls_{0};
};

}  // namespace afterimage
