// Run: an immutable, sorted, non-overlapping extent index over the records of one or more whole segments,
// flattened to the newest. Layout: docs/FORMAT.md, "Run". Mapped read-only and searched through its sparse
// fence index; nothing is built when a point is opened.
//
// Threads: a Run is immutable after open and may be used from any thread. build_run from a worker thread.
// Ownership: owns its mapping; the file may be unlinked while it is open, but not shortened.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "journal/extent_map.h"
#include "journal/segment.h"

namespace afterimage {

constexpr uint32_t kRunPageBytes = 4096;
constexpr uint32_t kRunEntriesPerPage = 256;  // 16 bytes each: a page, checked by the fence entry's CRC
constexpr uint32_t kRunSegmentsMax = 1u << 18;
constexpr char kRunMagic[8] = {'A', 'F', 'T', 'R', 'U', 'N', 'I', 'X'};

struct RunHeader {
  char magic[8];
  uint16_t version;
  uint16_t header_bytes;
  uint32_t flags;
  Uuid group;
  Uuid member;
  uint64_t first_lsn;
  uint64_t last_lsn;
  uint32_t segment_count;
  uint32_t volume_count;
  uint64_t page_count;
  uint64_t pages_offset;
  uint64_t file_bytes;     // catches a file cut short before it is mapped
  uint32_t tables_crc32c;  // over segment table, volume directory and fence
  uint8_t reserved[24];
  uint32_t header_crc32c;
};
static_assert(sizeof(RunHeader) == 128);

/// Identity of a segment that does not depend on where its file lies: its last link is a checksum over the
/// chain of all its frames' headers.
struct RunSegment {
  uint64_t first_lsn;
  uint64_t last_lsn;
  uint64_t generation;
  uint64_t bytes;
  uint32_t link;
  uint32_t reserved;
  bool is(const SegmentInfo& segment) const {
    return first_lsn == segment.first_lsn && last_lsn == segment.last_lsn &&
           generation == segment.generation && bytes == segment.bytes && link == segment.link;
  }
};
static_assert(sizeof(RunSegment) == 40);

struct RunVolume {
  uint16_t number;
  uint16_t reserved;
  uint32_t page_count;
  uint64_t first_page;
  uint64_t entry_count;
  Uuid uuid;
};
static_assert(sizeof(RunVolume) == 40);

struct RunFence {
  uint64_t start;  // sector of the page's first entry
  uint32_t crc32c;
  uint32_t reserved;
};
static_assert(sizeof(RunFence) == 16);

/// An entry as it lies in a page.
struct RunExtent {
  uint64_t words[2];
  static RunExtent pack(const RunEntry& entry);
  RunEntry unpack() const;
};
static_assert(sizeof(RunExtent) * kRunEntriesPerPage == kRunPageBytes);

constexpr uint16_t kRunVersion = 1;
/// Where the pages begin: behind the tables, at a page boundary.
uint64_t run_pages_offset(const RunHeader& header);

/// Builds the run of one sealed segment (all volumes), atomically: temporary file, fsync, rename, fsync
/// directory. Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, IO_ERROR.
Outcome build_run(const SegmentInfo& segment, const std::string& run_path);

/// Whether the file is the whole run of exactly this segment: header and tables are checked, pages when they
/// are used. False for a corrupt, foreign or stale one, and where there is none. Errors: IO_ERROR.
Result<bool> is_run_of(const SegmentInfo& segment, const std::string& run_path);

class Run {
 public:
  /// Errors: RUN_CORRUPT, RUN_VERSION, IO_ERROR. The caller rebuilds a corrupt run from its segments.
  static Result<std::unique_ptr<Run>> open(const std::string& path);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  uint64_t first_lsn() const { return header_.first_lsn; }
  uint64_t last_lsn() const { return header_.last_lsn; }
  /// By ordinal: RunEntry::segment is an index into it.
  std::span<const RunSegment> segments() const { return segments_; }
  uint64_t entry_count(uint16_t volume) const;
  /// As ExtentMap::lookup. A page whose CRC does not match is RUN_CORRUPT; `entries` then holds those of the
  /// pages before it.
  Outcome lookup(uint16_t volume, uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const;

 private:
  Run() = default;
  Outcome check_header(uint64_t file_bytes) const;
  Outcome check_tables();
  const RunVolume* find(uint16_t volume) const;
  /// The entries of a page, checked when it is first touched.
  Result<std::span<const RunExtent>> page(const RunVolume& volume, uint64_t index) const;

  std::string path_;
  RunHeader header_{};
  const std::byte* mapped_ = nullptr;
  std::span<const RunSegment> segments_;
  std::span<const RunVolume> volumes_;
  std::span<const RunFence> fences_;
  std::unique_ptr<std::atomic<bool>[]> checked_;  // per page
};

}  // namespace afterimage
