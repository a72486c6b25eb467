// Run: an immutable, sorted, non-overlapping extent index over the records of one or more whole segments,
// flattened to the newest. Layout: docs/FORMAT.md, "Run". Its tables are held; its pages of entries are read
// when a lookup gets to them through the sparse fence index, and kept while there is room. Read by system
// calls and not mapped: a sector that the disk cannot read is then the error of one lookup, where it would be
// a signal that ends the process.
//
// Threads: a Run may be used from any thread. The mutex over its pages is not held during I/O; two threads
// that miss the same page both read it. build_run from a worker thread.
// Ownership: owns its descriptor; the file may be unlinked while it is open.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "journal/extent_map.h"
#include "journal/segment.h"
#include "os/fd.h"

namespace afterimage {

constexpr uint32_t kRunPageBytes = 4096;
constexpr uint32_t kRunEntriesPerPage = 256;  // 16 bytes each: a page, checked by the fence entry's CRC
constexpr uint32_t kRunSegmentsMax = 1u << 18;
constexpr uint32_t kRunPagesKeptMax = 256;  // of a run that stands alone
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
  uint64_t file_bytes;     // catches a file cut short
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

/// Why a run must not be used for this segment, "" where it may: every page of it is read, and compared with
/// the extents that the segment's own tables give. Errors: those of the segment, and IO_ERROR.
Result<std::string> run_fault(const SegmentInfo& segment, const std::string& run_path);

class Run {
 public:
  /// At most `pages_kept_max` (> 0) pages of 4 KiB stay in memory. Errors: RUN_CORRUPT, RUN_VERSION,
  /// IO_ERROR. The caller rebuilds a corrupt run from its segments.
  static Result<std::unique_ptr<Run>> open(const std::string& path,
                                           uint32_t pages_kept_max = kRunPagesKeptMax);

  uint64_t first_lsn() const { return header_.first_lsn; }
  uint64_t last_lsn() const { return header_.last_lsn; }
  const Uuid& group() const { return header_.group; }
  const Uuid& member() const { return header_.member; }
  std::span<const RunVolume> volumes() const { return volumes_; }
  /// By ordinal: RunEntry::segment is an index into it.
  std::span<const RunSegment> segments() const { return segments_; }
  /// As ExtentMap::lookup. A page that cannot be read or whose CRC does not match is RUN_CORRUPT; `entries`
  /// then holds those of the pages before it.
  Outcome lookup(uint16_t volume, uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const;

 private:
  using Page = std::array<RunExtent, kRunEntriesPerPage>;
  struct Kept {  // the page that was used last of those that share this place
    uint64_t index = 0;
    std::shared_ptr<const Page> page;
  };

  Run() = default;
  Outcome check_header(uint64_t file_bytes) const;
  Outcome read_tables();
  Outcome check_tables();
  const RunVolume* find(uint16_t volume) const;
  /// A volume's page, checked.
  Result<std::shared_ptr<const Page>> page(const RunVolume& volume, uint64_t index) const;
  Outcome check_page(const RunVolume& volume, uint64_t index, const Page& page) const;
  /// Its entries: all but what is unused at the end of the volume's last page.
  static std::span<const RunExtent> used(const RunVolume& volume, uint64_t index, const Page& page);

  std::string path_;
  Fd fd_;
  RunHeader header_{};
  std::vector<uint64_t> tables_;  // what the spans below lie in
  std::span<const RunSegment> segments_;
  std::span<const RunVolume> volumes_;
  std::span<const RunFence> fences_;
  mutable std::mutex mutex_;
  mutable std::vector<Kept> kept_;  // page i has its place at i modulo the size
};

}  // namespace afterimage
