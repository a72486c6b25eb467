// Segment files: the journal of one member on disk. Layout: docs/FORMAT.md, "Segment".
//
// A segment holds frames of one generation, back to back from byte 4096, each linked to the one before. It is
// named by its first LSN (20 digits, ".seg"), preallocated, and immutable once sealed. Its run (".run") is
// built when it is sealed and can be rebuilt at any time.
//
// Threads: scan functions from any thread on files that nobody truncates. JournalWriter: append() and seal()
// from one control thread; the work is done on the writer's own thread; completions are called there.
// Ownership: append() borrows the frame's bytes until its completion is called.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "journal/frame.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kSegmentHeaderBytes = 4096;
constexpr uint64_t kSegmentBytesDefault = 64ull << 20;
constexpr uint64_t kSegmentBytesMin = 4ull << 20;
constexpr uint64_t kSegmentBytesMax = 64ull << 20;  // an index entry has 23 bits for (frame offset / 8)
constexpr char kSegmentMagic[8] = {'A', 'F', 'T', 'S', 'E', 'G', 'M', 'T'};

struct SegmentVolume {
  uint16_t number;
  uint16_t reserved;
  uint32_t block_size;
  Uuid uuid;
  uint64_t size;  // bytes
};
static_assert(sizeof(SegmentVolume) == 32);

struct SegmentHeader {
  char magic[8];
  uint16_t version;
  uint16_t header_bytes;
  uint32_t flags;
  Uuid group;
  Uuid member;
  uint64_t generation;
  uint64_t first_lsn;
  uint32_t link;  // what the first frame's link must be
  uint32_t volume_count;
  uint64_t created_ns;
  uint8_t reserved0[16];
  SegmentVolume volumes[64];
  uint8_t reserved1[1948];
  uint32_t header_crc32c;
};
static_assert(sizeof(SegmentHeader) == kSegmentHeaderBytes);

struct SegmentInfo {
  std::string path;
  uint64_t generation = 0;
  uint64_t first_lsn = 0;
  uint64_t last_lsn = 0;       // first_lsn - 1 while empty
  uint64_t first_time_ns = 0;  // 0 while empty
  uint64_t last_time_ns = 0;
  uint32_t first_era = 0;
  uint32_t last_era = 0;
  uint32_t frames = 0;
  uint64_t records = 0;
  uint64_t raw_bytes = 0;  // payload before compression
  uint64_t bytes = 0;      // used, header included: where the next frame goes
  uint32_t link = 0;       // header CRC of the last frame, or the header's link while empty
  bool sealed = false;
};

struct SegmentScan {
  SegmentInfo info;  // of the valid prefix
  std::string
      stop_reason;  // why the scan ended: "" at the end of the used bytes or at never-written space (zeroes)
  uint64_t stop_offset = 0;
};

/// Reads a segment frame by frame and stops at the first that does not continue the stream (bad CRC, wrong
/// first LSN, wrong link, other generation). `check_payload` verifies the chunks' CRCs too. Errors:
/// SEGMENT_CORRUPT (header), SEGMENT_VERSION, IO_ERROR.
Result<SegmentScan> scan_segment(const std::string& path, bool check_payload);

/// The last LSN of the segment whose time is ≤ time_ns within era `era` (0: any), or first_lsn - 1.
Result<uint64_t> lsn_at_time(const SegmentInfo& segment, uint64_t time_ns);
/// Time of the record with this LSN. Errors: POINT_UNKNOWN, SEGMENT_CORRUPT, IO_ERROR.
Result<uint64_t> time_at_lsn(const SegmentInfo& segment, uint64_t lsn);

class JournalWriter {
 public:
  struct Options {
    std::string directory;  // exists
    Uuid group{};
    Uuid member{};
    uint64_t segment_bytes = kSegmentBytesDefault;
  };
  struct Position {  // what must come next
    uint64_t epoch = 0;
    uint64_t generation = 0;
    uint64_t last_lsn = 0;  // of the journal; the next frame begins at last_lsn + 1
    uint32_t link = 0;      // of the last frame in this generation, 0 if none
  };
  struct Appended {
    uint64_t durable_lsn = 0;          // everything up to here is on stable storage (R4)
    std::vector<SegmentInfo> changed;  // the segment written to, and those sealed by this group commit
  };
  using Completion = std::function<void(Result<Appended>)>;

  /// Opens the journal for appending after `position`. `tail` is the unsealed last segment (from
  /// scan_segment, its torn tail already decided on and cut at tail.bytes) or null to begin a new one with
  /// the first frame. Errors: JOURNAL_IO.
  static Result<std::unique_ptr<JournalWriter>> open(const Options& options, const Position& position,
                                                     const SegmentInfo* tail);
  ~JournalWriter();  // completes what was queued, seals nothing

  /// Queues a frame. It is verified in full on the writer's thread and must continue the stream exactly:
  /// FRAME_CORRUPT, FRAME_TRUNCATED, FRAME_VERSION, FRAME_FOREIGN (group or member), FRAME_FENCED (epoch),
  /// FRAME_GENERATION, FRAME_REPEATED (LSN at or before the last), FRAME_GAP (LSN beyond the next),
  /// FRAME_LINK, RECORD_INVALID (a volume that the segment lacks, a range beyond its size). A refused frame
  /// leaves the journal as it was; those queued behind it are refused with JOURNAL_STOPPED until resume() is
  /// called. JOURNAL_FULL (ENOSPC, EDQUOT) and JOURNAL_IO: likewise, after cutting back to the last durable
  /// byte. Completions are called in order, once the frame is durable; one fdatasync serves all frames of a
  /// group commit.
  void append(const std::byte* frame, uint64_t bytes, Completion completion);

  /// Starts a new session at the present position (clears JOURNAL_STOPPED), with the writer's new epoch.
  void resume(uint64_t epoch);
  /// Seals the current segment and begins generation `generation` at `first_lsn` with these volumes.
  void begin_generation(uint64_t epoch, uint64_t generation, uint64_t first_lsn,
                        std::vector<SegmentVolume> volumes, Completion completion);
  Position position() const;  // of the durable end
};

}  // namespace afterimage
