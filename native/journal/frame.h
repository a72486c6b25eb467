// The frame: a batch of consecutive records of one member's stream; the unit of compression, checksum,
// transport and append. Its bytes are the same on the wire and on disk. Layout: docs/FORMAT.md, "Frame"; this
// file is its code.
//
// Threads: functions are pure; a FrameBuilder belongs to one thread.
// Ownership: FrameView points into the caller's bytes and is valid only as long as they are. Bytes given to
// parse_frame_tables and verify_frame begin at a multiple of 8: a caller whose transport does not promise
// that copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "os/result.h"
#include "os/uuid.h"

namespace afterimage {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the structures below are read and written in place");

constexpr uint32_t kRecordBytesMax = 1u << 20;      // payload of one record
constexpr uint32_t kZeroRecordBytesMax = 1u << 30;  // range of one zero record
constexpr uint32_t kRecordsPerFrameMax = 4096;
constexpr uint32_t kFrameRawBytesMax = 1u << 20;  // uncompressed payload of one frame
constexpr uint32_t kChunkRawBytesMax = 64u << 10;
constexpr uint32_t kChunksPerFrameMax = 64;
constexpr uint32_t kFrameBytesMax = 1280u << 10;  // the whole frame, as stored
constexpr uint16_t kVolumeNumberMax = 63;         // volume numbers are 0…63 per member
constexpr uint64_t kFrameNumberMax = INT64_MAX;   // of an LSN or a time: a catalog's integers are signed
constexpr uint16_t kFrameVersion = 1;
constexpr uint32_t kChunkStoredRaw = 1u << 31;   // in ChunkEntry::stored_bytes
constexpr uint32_t kFlagsCritical = 0xffff0000;  // unknown flags in this half refuse the frame
constexpr char kFrameMagic[8] = {'A', 'F', 'T', 'F', 'R', 'A', 'M', 'E'};

enum class RecordKind : uint8_t {
  kWrite = 1,       // payload of `length` bytes at `offset`
  kZero = 2,        // `length` bytes at `offset` read as zero
  kFlush = 3,       // a flush of the volume was acknowledged here; no range
  kResize = 4,      // the volume's size is `offset` bytes from here on
  kClock = 5,       // the clock was stepped: a new time era begins with this record
  kMembership = 6,  // the volume belongs to the group from here on; `offset` is its size in bytes
  kVoid = 7,        // an LSN that was reserved and never used
};
constexpr uint8_t kRecordResync = 1;  // flag: content copied by a resync, not by an application
constexpr uint8_t kRecordTrim = 2;    // flag on kZero: the application discarded the range

enum class Codec : uint16_t { kLz4Block = 1 };

struct FrameHeader {
  char magic[8];
  uint16_t version;
  uint16_t header_bytes;  // sizeof(FrameHeader): a reader of another version fails here, not by guessing
  uint32_t flags;
  Uuid group;
  Uuid member;
  uint64_t epoch;  // fences a second writer
  uint64_t generation;
  uint64_t first_lsn;  // record i has LSN first_lsn + i
  uint64_t
      last_lsn;  // == first_lsn + record_count - 1: catches a count that lost a bit before the CRC was made
  uint64_t first_time_ns;
  uint64_t last_time_ns;
  uint32_t era;
  uint32_t record_count;
  uint32_t chunk_count;
  uint16_t codec;
  uint16_t reserved0;
  uint32_t raw_bytes;      // payload before compression
  uint32_t payload_bytes;  // payload as stored
  uint32_t frame_bytes;    // all of it, a multiple of 8
  uint32_t link;  // header_crc32c of the frame before it in this generation, 0 for the first: catches
                  // reordered frames and old frames in recycled segments
  uint32_t tables_crc32c;  // over record table and chunk table; chunks carry their own
  uint8_t reserved1[24];
  uint32_t header_crc32c;  // over all bytes before it
};
static_assert(sizeof(FrameHeader) == 160);

struct RecordEntry {
  uint8_t kind;
  uint8_t flags;
  uint16_t volume;
  uint32_t length;          // bytes, a multiple of 512; 0 for flush, clock, void, resize, membership
  uint64_t offset;          // bytes, a multiple of 512
  uint64_t time_ns;         // CLOCK_REALTIME, strictly increasing within an era, so within a frame too
  uint32_t payload_offset;  // into the uncompressed payload; kWrite only, else 0
  uint32_t reserved;
};
static_assert(sizeof(RecordEntry) == 32);

/// Chunks cut the payload where records begin: a record of at most 64 KiB lies in one chunk. A longer one
/// begins a chunk and fills chunks of exactly 64 KiB; its rest may share its last chunk with what follows.
struct ChunkEntry {
  uint32_t raw_offset;     // where this chunk begins in the uncompressed payload
  uint32_t stored_offset;  // and in the stored payload
  uint32_t stored_bytes;   // | kChunkStoredRaw when compression did not save an eighth
  uint32_t crc32c;         // of the stored bytes
};
static_assert(sizeof(ChunkEntry) == 16);

struct FrameView {
  const FrameHeader* header = nullptr;
  std::span<const RecordEntry> records;
  std::span<const ChunkEntry> chunks;
  std::span<const std::byte> payload;  // stored form
};

/// Checks a header alone (at least sizeof(FrameHeader) bytes): magic, version, flags, header CRC, every count
/// and length within its limit, and frame_bytes equal to the sum of its parts. Errors: FRAME_TRUNCATED,
/// FRAME_CORRUPT, FRAME_VERSION.
Result<FrameHeader> parse_frame_header(std::span<const std::byte> bytes);

/// Checks header and tables, not the chunks' CRCs; `bytes` is the frame without its payload or the whole
/// frame (then view.payload is set). Every record lies within limits; every chunk within the payload, in
/// order, without gaps.
Result<FrameView> parse_frame_tables(std::span<const std::byte> bytes);

/// parse_frame_tables over exactly one whole frame, plus every chunk's CRC-32C.
Result<FrameView> verify_frame(std::span<const std::byte> frame);

/// Index of the chunk that holds byte `raw_offset` of the payload, and the raw length of a chunk.
size_t chunk_at(const FrameView& view, uint32_t raw_offset);
uint32_t chunk_raw_bytes(const FrameView& view, size_t chunk);

/// Decompresses one chunk from its stored bytes into `into` (chunk_raw_bytes long). The CRC is checked first.
/// Errors: FRAME_CORRUPT.
Outcome unpack_chunk(const FrameView& view, size_t chunk, std::span<const std::byte> stored, std::byte* into);

/// Whether every chunk of a verified frame is what LZ4 can unpack to its length: a CRC that is right says
/// only that nobody changed it since. `scratch`: kChunkRawBytesMax bytes. Errors: FRAME_CORRUPT.
Outcome unpack_all(const FrameView& view, std::byte* scratch);

/// Builds one frame at a time into a caller's buffer.
class FrameBuilder {
 public:
  struct Stream {  // what all frames of a session share
    Uuid group{};
    Uuid member{};
    uint64_t epoch = 0;
    uint64_t generation = 0;
  };
  struct Record {
    RecordKind kind = RecordKind::kVoid;
    uint8_t flags = 0;
    uint16_t volume = 0;
    uint32_t length = 0;
    uint64_t offset = 0;
    uint64_t time_ns = 0;
  };

  explicit FrameBuilder(const Stream& stream);
  ~FrameBuilder();
  FrameBuilder(const FrameBuilder&) = delete;
  FrameBuilder& operator=(const FrameBuilder&) = delete;

  /// Of LZ4_compress_fast, for chunks from now on: 1, the default, compresses most, more takes less time.
  void set_acceleration(int acceleration);
  /// Starts a frame in `buffer` (at least kFrameBytesMax bytes, 8-byte aligned; borrowed until finish()).
  void begin(std::byte* buffer, uint64_t first_lsn, uint32_t era, uint32_t link);
  /// Adds the next record; `payload` (record.length bytes, kWrite only) is compressed or copied before the
  /// call returns. False, and nothing added, when the record belongs into the next frame because this one is
  /// full. A first record always fits.
  bool add(const Record& record, const std::byte* payload);
  uint32_t record_count() const;
  uint32_t raw_bytes() const;
  /// Completes the frame; returns its header as written. At least one record was added.
  FrameHeader finish();

 private:
  struct State;
  State* state_;
};

}  // namespace afterimage
