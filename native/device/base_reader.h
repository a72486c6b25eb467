// BaseReader: a base image, of which every block is verified when it is first touched. Bytes that fail their
// checksum are never given out.
//
// Threads: any. Ownership: owns its descriptors; the files may be unlinked while it is open, and the base may
// be written meanwhile (BaseWriter).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/base_checksums.h"
#include "os/fd.h"
#include "os/past_cache.h"

namespace afterimage {

/// Damaged blocks that a reader remembers.
constexpr uint32_t kBadBlocksMax = 1024;

class BaseReader {
 public:
  /// `volume_bytes`: of the volume that it is the base of: the file may have become shorter. Errors:
  /// BASE_MISSING, FILE_LIMIT, IO_ERROR.
  static Result<std::unique_ptr<BaseReader>> open(const std::string& path, uint64_t volume_bytes);

  int fd() const { return fd_.get(); }
  uint64_t file_bytes() const { return file_bytes_; }  // when it was opened
  /// What lies beyond the end is zero. Errors: EBADMSG for a damaged block, EIO.
  Errno read(uint64_t offset, uint64_t length, std::byte* into);
  /// As BlockDevice::read_past_cache.
  Errno read_past_cache(uint64_t offset, uint64_t length, std::byte* into);
  /// Offsets of blocks that were found damaged, each once.
  std::vector<uint64_t> bad_offsets() const;

  struct Scrubbed {
    uint64_t bytes = 0;     // that were read
    uint64_t unsummed = 0;  // blocks of the file, as far as the volume reaches, without a checksum
    bool is_end = false;
  };
  /// Verifies the blocks in [offset, offset + length), as the disk gives them; damaged ones are in
  /// bad_offsets().
  Scrubbed scrub(uint64_t offset, uint64_t length);
  bool has_sums() const { return sums_ != nullptr; }

 private:
  enum class Verdict { kRight, kUnsummed, kBad };
  BaseReader() = default;
  /// The whole block is read into `into` (kBaseBlockBytes).
  Verdict verify(uint64_t block, std::byte* into, Errno* error);
  Errno read_raw(uint64_t offset, uint64_t length, std::byte* into) const;
  /// Verifies what was read at `offset`, a few whole blocks, and what is wrong by reading it
  /// again.
  Errno verify_read(uint64_t offset, uint64_t length, std::byte* into);
  bool is_verified(uint64_t block) const;
  void set_verified(uint64_t block);
  void note_bad(uint64_t block);

  Fd fd_;
  PastCache past_cache_;
  uint64_t file_bytes_ = 0;
  uint64_t volume_bytes_ = 0;
  uint64_t end_ = 0;                     // of what is verified: of the file or the volume, in whole blocks
  std::unique_ptr<BaseChecksums> sums_;  // null: nothing is verified
  std::vector<std::atomic<uint64_t>> verified_;  // a bit a block
  mutable std::mutex mutex_;
  std::vector<uint64_t> bad_;
};

}  // namespace afterimage
