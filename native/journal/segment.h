// Segment files: the journal of one member on disk. Layout: docs/FORMAT.md, "Segment".
//
// A segment holds frames of one generation, back to back from byte 4096, each linked to the one before. It is
// named by its first LSN (20 digits, ".seg"), preallocated, and immutable once sealed. Its run (".run") is
// built when it is sealed and can be rebuilt at any time.
//
// Threads: every function from any thread, also on the segment that is being appended to; they open the file
// anew and read no further than what is durable according to the SegmentInfo given. Nothing is kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "journal/frame.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kSegmentHeaderBytes = 4096;
constexpr uint64_t kSegmentBytesDefault = 64ull << 20;
constexpr uint64_t kSegmentBytesMin = 2ull << 20;
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

/// What a catalog knows of a segment.
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
  Uuid group{};
  Uuid member{};
  uint32_t first_link = 0;  // of the header: what the segment follows
  uint64_t file_bytes = 0;
  std::vector<SegmentVolume>
      volumes;              // with their sizes after the valid prefix: what a next segment begins with
  std::string stop_reason;  // why the scan ended: "" at the end of the used bytes or at never-written space
                            // (zeroes), else what is wrong with the bytes at stop_offset
  uint64_t stop_offset = 0;
};

/// Adds one more frame to `info`.
void extend(SegmentInfo* info, const FrameHeader& frame);

/// Why a header cannot be used: nullptr if it can. `code` becomes SEGMENT_CORRUPT or SEGMENT_VERSION.
const char* segment_header_fault(const SegmentHeader& header, const char** code);

/// "DIRECTORY/00000000000000000001.seg"
std::string segment_path(const std::string& directory, uint64_t first_lsn);

/// Reads a segment frame by frame and stops at the first that does not continue the stream (bad CRC, wrong
/// first LSN, wrong link, other generation). `check_payload` verifies the chunks' CRCs too. Errors:
/// SEGMENT_CORRUPT (header), SEGMENT_VERSION, IO_ERROR.
Result<SegmentScan> scan_segment(const std::string& path, bool check_payload);

/// The last LSN of the segment whose time is ≤ time_ns within era `era` (0: any), or first_lsn - 1 if there
/// is none. Errors: SEGMENT_CORRUPT, IO_ERROR.
Result<uint64_t> lsn_at_time(const SegmentInfo& segment, uint64_t time_ns, uint32_t era = 0);
/// Time of the record with this LSN. Errors: POINT_UNKNOWN, SEGMENT_CORRUPT, IO_ERROR.
Result<uint64_t> time_at_lsn(const SegmentInfo& segment, uint64_t lsn);

}  // namespace afterimage
