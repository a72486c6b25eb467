// BaseChecksums: the sidecar of a base image, a CRC-32C for each block of it. Layout: docs/FORMAT.md,
// "Checksums of a base". An entry is trusted only while it is settled: whoever is about to write into a block
// takes its entry away first, durably, and gives it back once the block is on stable storage (BaseWriter). So
// a crash in between leaves blocks that are not checked, and never one that is taken for damaged.
//
// Threads: get from any, also while another process or thread puts; put and sync one at a time.
// Ownership: owns its descriptor.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kBaseBlockBytes = 64u << 10;
constexpr uint32_t kSumPageBytes = 512;  // what a disk writes whole or not at all
constexpr uint32_t kSumsPerPage = 126;
constexpr char kSumsMagic[8] = {'A', 'F', 'T', 'B', 'A', 'S', 'U', 'M'};

struct BaseSumsHeader {
  char magic[8];
  uint16_t version;
  uint16_t header_bytes;
  uint32_t flags;
  uint32_t block_bytes;
  uint8_t reserved[488];
  uint32_t header_crc32c;
};
static_assert(sizeof(BaseSumsHeader) == kSumPageBytes);

struct BaseSumsPage {
  uint32_t sums[kSumsPerPage];
  uint32_t number;  // catches a page that was written elsewhere
  uint32_t crc32c;  // of all before it
};
static_assert(sizeof(BaseSumsPage) == kSumPageBytes);

/// Entries that are no checksum.
constexpr uint32_t kSumNone = 0;  // not settled: never written, or being written
constexpr uint32_t kSumBad = 1;   // what it held was damaged when a part of it was to be rewritten
/// The entry of a block with this content: its CRC, moved out of the way of the two above.
uint32_t sum_of(const std::byte* block);

class BaseChecksums {
 public:
  /// "….img" → "….sum"
  static std::string path_of(const std::string& base_path);

  /// Null where there is none, or none that this program can read: what it says of nothing is that nothing is
  /// known. Errors: IO_ERROR, PERMISSION_DENIED, FILE_LIMIT.
  static Result<std::unique_ptr<BaseChecksums>> open(const std::string& base_path);
  /// For writing; made, durably, where there is none or none that can be read. Errors: JOURNAL_FULL,
  /// JOURNAL_IO.
  static Result<std::unique_ptr<BaseChecksums>> create(const std::string& base_path);

  /// Those from `first_block` on; kSumNone where the page is damaged too. How many pages were. Errors:
  /// IO_ERROR.
  Result<uint64_t> get(uint64_t first_block, std::span<uint32_t> sums) const;
  /// Errors: JOURNAL_FULL, JOURNAL_IO.
  Outcome put(uint64_t first_block, std::span<const uint32_t> sums);
  Outcome sync();

 private:
  BaseChecksums() = default;
  enum class Page { kWhole, kEmpty, kBad };
  Result<Page> read_page(uint64_t number, BaseSumsPage* page) const;
  Outcome write_page(uint64_t number, BaseSumsPage* page);

  std::string path_;
  Fd fd_;
};

}  // namespace afterimage
