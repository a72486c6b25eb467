// VolatileDevice: a disk with a volatile cache, which the contract suite of front ends serves. It takes its
// time before each change and each flush, so that an answer that came too early is seen; it holds writes back
// when told to; it fails when told to; and it knows what a power loss would leave. Its first content is
// nowhere zero.
//
// Threads: as BlockDevice; everything else from any thread at any time.
// Ownership: owns its content.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "scratch_device.h"

namespace afterimage::test {

class VolatileDevice final : public BlockDevice {
 public:
  using Bytes = std::vector<std::byte>;

  VolatileDevice(uint64_t size, uint32_t block_size, bool read_only = false)
      : disk_(size, block_size), read_only_(read_only), stable_(size) {
    std::mt19937_64 random(size);
    for (uint64_t i = 0; i < size; i += sizeof(uint64_t)) {
      const uint64_t word = random() | 0x01'01'01'01'01'01'01'01;
      std::memcpy(&stable_[i], &word, sizeof word);
    }
    disk_.write(0, size, stable_.data(), {});
  }

  /// While one lives, writes that begin in [begin, end) wait on the device before they change anything.
  class Hold {
   public:
    Hold(VolatileDevice& device, uint64_t begin, uint64_t end) : device_(device) {
      const std::lock_guard lock(device_.mutex_);
      device_.hold_begin_ = begin;
      device_.hold_end_ = end;
    }
    ~Hold() {
      std::unique_lock lock(device_.mutex_);
      device_.hold_end_ = device_.hold_begin_ = 0;
      device_.changed_.notify_all();
      device_.changed_.wait(lock, [&] { return device_.held_ == 0; });
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    /// False if that many do not arrive within a few seconds.
    bool has_caught(uint32_t writes) {
      std::unique_lock lock(device_.mutex_);
      return device_.changed_.wait_for(lock, std::chrono::seconds(5),
                                       [&] { return device_.held_ >= writes; });
    }

   private:
    VolatileDevice& device_;
  };

  void set_delay(std::chrono::microseconds delay) { delay_us_ = delay.count(); }
  /// Every later request fails with this.
  void set_failure(Errno error) { disk_.set_failure(error); }
  /// How many writes, zeroes and trims were asked for, and how many of them were carried out.
  uint64_t attempts() const { return attempts_; }
  uint64_t changes() const {
    const std::lock_guard lock(mutex_);
    return changes_;
  }
  Bytes content(uint64_t offset, uint64_t length) {
    Bytes bytes(length);
    if (disk_.read(offset, length, bytes.data()) != 0) bytes.clear();
    return bytes;
  }
  /// What a power loss at this moment would leave.
  Bytes stable(uint64_t offset, uint64_t length) const {
    const std::lock_guard lock(mutex_);
    const auto begin = stable_.begin() + static_cast<ptrdiff_t>(offset);
    return Bytes(begin, begin + static_cast<ptrdiff_t>(length));
  }

  uint64_t size() const override { return disk_.size(); }
  uint32_t block_size() const override { return disk_.block_size(); }
  bool read_only() const override { return read_only_; }
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override {
    return disk_.read(offset, length, into);
  }
  Errno write(uint64_t offset, uint64_t length, const std::byte* from,
              const RequestOptions& options) override {
    wait_while_held(offset);
    return change([&] { return disk_.write(offset, length, from, options); },
                  {.offset = offset, .bytes = Bytes(from, from + length), .is_durable = options.fua});
  }
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    return change([&] { return disk_.zero(offset, length, options); },
                  {.offset = offset, .zeroes = length, .is_durable = options.fua});
  }
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override {
    return change([&] { return disk_.trim(offset, length, options); },
                  {.offset = offset, .zeroes = length, .is_durable = options.fua});
  }
  /// Makes durable what had returned when it was called, and nothing that is younger.
  Errno flush() override {
    const uint64_t covered = changes();
    dawdle();
    if (const Errno error = disk_.flush()) return error;
    const std::lock_guard lock(mutex_);
    // A durable write that is younger than the flush must not be undone by an older one below it.
    for (const Change& change : cached_)
      if (change.number < covered || change.is_durable) make_stable(change);
    std::erase_if(cached_, [&](const Change& change) { return change.number < covered; });
    return 0;
  }

 private:
  struct Change {
    uint64_t offset;
    Bytes bytes = {};
    uint64_t zeroes = 0;  // that follow the bytes; one of the two is empty
    bool is_durable;
    uint64_t number = 0;
  };
  template <typename Carry>
  Errno change(Carry carry, Change change) {
    ++attempts_;
    if (read_only_) return EPERM;
    dawdle();
    if (const Errno error = carry()) return error;
    const std::lock_guard lock(mutex_);
    change.number = changes_++;
    if (change.is_durable) make_stable(change);
    cached_.push_back(std::move(change));
    return 0;
  }
  void dawdle() const {
    if (delay_us_ > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay_us_));
  }
  void wait_while_held(uint64_t offset) {
    const auto is_held = [&] { return offset >= hold_begin_ && offset < hold_end_; };
    std::unique_lock lock(mutex_);
    if (!is_held()) return;
    ++held_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !is_held(); });
    --held_;
    changed_.notify_all();
  }
  void make_stable(const Change& change) {
    const auto place = stable_.begin() + static_cast<ptrdiff_t>(change.offset);
    std::fill_n(std::copy(change.bytes.begin(), change.bytes.end(), place), change.zeroes, std::byte{0});
  }

  ScratchDevice disk_;
  const bool read_only_;
  std::atomic<uint64_t> attempts_{0};
  std::atomic<int64_t> delay_us_{0};
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  uint64_t hold_begin_ = 0, hold_end_ = 0;
  uint32_t held_ = 0;
  uint64_t changes_ = 0;
  std::vector<Change> cached_;  // in the order in which they were carried out
  Bytes stable_;
};

}  // namespace afterimage::test
