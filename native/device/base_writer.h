// BaseWriter: the only way in which a base image is written: its bytes and its checksums together. What a
// crash leaves is either settled, with the checksum of exactly what is there, or without one: whoever was
// writing it writes it again (the initial sync from its last flush, a roll-forward from its beginning).
//
// In this order: entries of the blocks about to be written taken away and synced → bytes written → flush():
// bytes synced, then the checksums of what was written. Where only a part of a settled block is to be written
// the rest is verified first: damage in it is marked, never given a right checksum.
//
// Threads: any. Writes run beside each other, and must not overlap; everything else is served alone.
// Ownership: owns its descriptors, and the lock on the base.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/base_checksums.h"
#include "device/file_device.h"

namespace afterimage {

class BaseWriter final : public BlockDevice {
 public:
  /// `cache`: direct for what nobody reads soon. Errors: as FileDevice::open, JOURNAL_FULL, JOURNAL_IO.
  static Result<std::unique_ptr<BaseWriter>> open(const std::string& path,
                                                  FileDevice::Cache cache = FileDevice::Cache::kBuffered);

  uint64_t size() const override { return base_->size(); }
  uint32_t block_size() const override { return base_->block_size(); }
  bool read_only() const override { return false; }
  Errno read(uint64_t offset, uint64_t length, std::byte* into) override;
  Errno write(uint64_t offset, uint64_t length, const std::byte* from, const RequestOptions&) override;
  Errno zero(uint64_t offset, uint64_t length, const RequestOptions&) override;
  Errno trim(uint64_t offset, uint64_t length, const RequestOptions& options) override;
  struct Range {
    uint64_t offset;
    uint64_t length;
  };
  /// Takes the entries of all blocks of these ranges away at once, with one sync: saves the writes that
  /// follow theirs. Everything in them must be written before the next flush(). EIO also when the checksums
  /// could not be written.
  Errno prepare(std::span<const Range> ranges);
  /// Appends the offsets of blocks of which these ranges touch a part only, and of which the rest is damaged:
  /// written now, what they would gain could not be read either. The ranges ascend and do not meet. EIO also
  /// when the checksums cannot be read.
  Errno check(std::span<const Range> ranges, std::vector<uint64_t>* bad_offsets);
  Errno flush() override;
  /// What the base in `path` held from `offset` on is gone: makes the file `size` bytes long, or makes it,
  /// and marks each block from there on that has no checksum as damaged. Errors: as open.
  static Outcome lose(const std::string& path, uint64_t offset, uint64_t size);
  /// Makes the image in `path` at least `size` bytes long, in whole sectors; returns how long it is. What it
  /// gains reads as zeroes, as what lies beyond its end does, and has the checksums of that. Errors:
  /// BASE_MISSING, as open.
  static Result<uint64_t> grow(const std::string& path, uint64_t size);
  /// Gives each block that has no checksum the one of what it holds: the base is complete. Everything written
  /// must have been flushed.
  Errno complete();
  /// Likewise within a range that begins with a block; `blocks`: how many that were. What cannot be read
  /// stays without.
  Errno sum(uint64_t offset, uint64_t length, uint64_t* blocks);

 private:
  BaseWriter() = default;
  Errno take_all(std::span<const Range> ranges);
  Errno unsettle(const Range& range, bool* is_taken);
  Errno take(uint64_t block, uint32_t sum, bool is_whole);
  Errno is_bad(uint64_t block, uint32_t sum, bool* is_bad);
  Errno load(uint64_t block);  // into block_; what lies beyond the end is zero
  Errno settle(uint64_t first, uint64_t count);
  void touch(const Range& range);
  struct Summed {
    uint64_t blocks = 0;
    uint64_t unread = 0;
  };
  Errno sum_blocks(uint64_t first, uint64_t end, Summed* summed);

  std::shared_mutex alone_;  // shared: by write()
  std::mutex mutex_;         // of what follows, among writes
  std::unique_ptr<FileDevice> base_;
  std::unique_ptr<BaseChecksums> sums_;
  std::unique_ptr<std::byte[]> block_;
  std::vector<bool> unsettled_;  // by block: its entry is away until the next flush
  std::vector<bool> bad_;        // of these: what is left of it is damaged
  bool has_unsettled_ = false;
  /// Of blocks that were written wholly, and not touched since: what settles them.
  std::unordered_map<uint64_t, uint32_t> fresh_;
};

}  // namespace afterimage
