// A spool file: the records of a stretch of a capture ring, as they lie in it, in batches that each were
// copied at once (docs/FORMAT.md, "Spool file"). Nothing of it is synced: it outlives the process, as the
// ring does, and not the host.
//
// Threads: a SpoolFileWriter by one thread, a SpoolFileReader by one thread; the functions by any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "capture/capture_ring.h"
#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint16_t kSpoolVersion = 1;
constexpr char kUnfinishedSuffix[] = ".tmp";
constexpr uint32_t kSpoolBatchBytesMax = 2u << 20;  // of records

/// Whose records a spool holds.
struct SpoolOwner {
  Uuid group{};
  Uuid member{};
  uint64_t ring = 0;
};

struct SpoolFileHeader {
  char magic[8];
  uint16_t version;
  uint16_t header_bytes;
  uint32_t flags;
  Uuid group;
  Uuid member;
  uint64_t ring;
  uint64_t generation;
  uint64_t first_position;
  uint64_t first_lsn;
  uint64_t first_time_ns;
  uint8_t reserved[36];
  uint32_t header_crc32c;
};
static_assert(sizeof(SpoolFileHeader) == 128);

struct SpoolBatchHeader {
  char magic[8];
  uint64_t ring;
  uint64_t position;
  uint64_t first_lsn;
  uint64_t last_lsn;
  uint32_t record_bytes;
  uint32_t record_count;
  uint32_t records_crc32c;
  uint8_t reserved[8];
  uint32_t header_crc32c;
};
static_assert(sizeof(SpoolBatchHeader) == 64);

/// A batch before it is in a file: `bytes` begins with room for its header.
struct SpoolBatch {
  uint64_t position = 0;
  uint64_t end = 0;  // the position after it
  uint64_t generation = 0;
  uint64_t first_lsn = 0;
  uint64_t last_lsn = 0;
  uint64_t first_time_ns = 0;
  uint32_t record_count = 0;
  std::byte* bytes = nullptr;  // the caller's

  uint64_t file_bytes() const { return sizeof(SpoolBatchHeader) + (end - position); }
};

/// What is known of a file that belongs to a spool.
struct SpooledFile {
  std::string path;
  uint64_t generation = 0;
  uint64_t position = 0;  // [position, end) of the ring's stream
  uint64_t end = 0;
  uint64_t first_lsn = 0;
  uint64_t last_lsn = 0;
  uint64_t first_time_ns = 0;
};

/// The header of the file at `path`. Errors: SPOOL_CORRUPT (it is no spool file of this version), SPOOL_IO.
Result<SpoolFileHeader> read_spool_header(const std::string& path);
/// Whether the file at `path` holds nothing where its header belongs: zeroes, or not so much. Power loss
/// leaves that of a file that was not synced.
bool is_spool_file_blank(const std::string& path);

class SpoolFileWriter {
 public:
  /// A new file for `batch` and what follows it. Errors: SPOOL_FULL (also when fewer than `headroom_bytes`
  /// would be left on its file system), SPOOL_IO. A file that could not be completed is removed.
  static Result<SpoolFileWriter> create(const std::string& path, const SpoolOwner& owner,
                                        const SpoolBatch& batch, uint64_t file_bytes,
                                        uint64_t headroom_bytes);

  const std::string& path() const { return path_; }
  bool fits(const SpoolBatch& batch) const {
    return batch.generation == generation_ && file_bytes_ - offset_ >= batch.file_bytes();
  }
  /// Fills in its header and writes it where the next one belongs: until accept() that is its own place.
  /// Errors: SPOOL_FULL, SPOOL_IO.
  Outcome write(const SpoolBatch& batch);
  void accept(const SpoolBatch& batch) { offset_ += batch.file_bytes(); }

 private:
  SpoolFileWriter() = default;
  Fd fd_;
  std::string path_;
  uint64_t ring_ = 0;
  uint64_t generation_ = 0;
  uint64_t file_bytes_ = 0;
  uint64_t offset_ = 0;
};

class SpoolFileReader {
 public:
  explicit SpoolFileReader(const SpoolOwner& owner) : owner_(owner) {}

  /// The record at `position`, which lies in `file`; it stays valid until the next call. Errors: SPOOL_IO,
  /// SPOOL_CORRUPT.
  Result<const RingRecord*> at(const SpooledFile& file, uint64_t position);
  /// The one after `record`, which at() or next() returned; null at the end of its batch.
  const RingRecord* next(const RingRecord* record) const;

  /// The last LSN before `end`, where a batch of `file` must end. Reads no more than headers. Errors: as
  /// at().
  Result<uint64_t> last_lsn_before(const SpooledFile& file, uint64_t end);

 private:
  Outcome open(const SpooledFile& file);
  Result<SpoolBatchHeader> read_header(const SpooledFile& file);
  Outcome read_batch(const SpooledFile& file, const SpoolBatchHeader& header);

  struct Free {
    void operator()(std::byte* bytes) const;
  };

  const SpoolOwner owner_;
  Fd fd_;
  std::string path_;
  uint64_t offset_ = 0;         // of the next batch's header
  uint64_t next_position_ = 0;  // and what it begins with
  uint64_t position_ = 0;       // of the batch in memory
  uint64_t bytes_ = 0;          // its length, 0: none
  std::unique_ptr<std::byte, Free> records_;
};

}  // namespace afterimage
