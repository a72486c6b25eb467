#include <algorithm>
#include <cstring>

#include "journal/frame.h"
#include "lz4.h"
#include "os/assert.h"
#include "os/crc32c.h"

namespace afterimage {
namespace {

// While a frame grows, its record table lies where it will stay, and its payload begins behind the longest
// tables that there can be; finish() moves the payload up to the real ones.
constexpr size_t kTablesBytesMax =
    kRecordsPerFrameMax * sizeof(RecordEntry) + kChunksPerFrameMax * sizeof(ChunkEntry);
constexpr size_t kPayloadStart = sizeof(FrameHeader) + kTablesBytesMax;
constexpr size_t kPaddingMax = 7;
// A chunk is never stored longer than it is.
static_assert(kPayloadStart + kFrameRawBytesMax + kPaddingMax <= kFrameBytesMax);
// A chunk is closed only because the next record would make it longer than kChunkRawBytesMax, so any two
// neighbours hold more than that together.
static_assert(2 * (kFrameRawBytesMax / kChunkRawBytesMax) <= kChunksPerFrameMax);
static_assert(kRecordBytesMax <= kFrameRawBytesMax, "a first record always fits");
static_assert(kChunkRawBytesMax < kChunkStoredRaw);
static_assert(offsetof(FrameHeader, header_crc32c) == sizeof(FrameHeader) - 4);

}  // namespace

struct FrameBuilder::State {
  Stream stream;
  std::byte* buffer = nullptr;
  FrameHeader header{};
  uint32_t stored_bytes = 0;
  uint32_t gathered_bytes = 0;  // of the open chunk
  ChunkEntry chunks[kChunksPerFrameMax];
  int acceleration = 1;
  LZ4_stream_t lz4;
  std::byte gathered[kChunkRawBytesMax];

  RecordEntry* records() { return reinterpret_cast<RecordEntry*>(buffer + sizeof(FrameHeader)); }

  void close_chunk(const std::byte* raw, uint32_t raw_bytes) {
    AFTERIMAGE_ASSERT(header.chunk_count < kChunksPerFrameMax, "the chunk table");
    std::byte* const stored = buffer + kPayloadStart + stored_bytes;
    // Given no room for more, LZ4 stops early where it does not save an eighth.
    const uint32_t worthwhile = raw_bytes - raw_bytes / 8;
    const int packed =
        LZ4_compress_fast_extState(&lz4, reinterpret_cast<const char*>(raw), reinterpret_cast<char*>(stored),
                                   static_cast<int>(raw_bytes), static_cast<int>(worthwhile), acceleration);
    const uint32_t bytes = packed > 0 ? static_cast<uint32_t>(packed) : raw_bytes;
    if (packed <= 0) std::memcpy(stored, raw, raw_bytes);
    chunks[header.chunk_count++] = ChunkEntry{
        .raw_offset = header.raw_bytes,
        .stored_offset = stored_bytes,
        .stored_bytes = packed > 0 ? bytes : bytes | kChunkStoredRaw,
        .crc32c = crc32c(stored, bytes),
    };
    header.raw_bytes += raw_bytes;
    stored_bytes += bytes;
  }

  void close_gathered_chunk() {
    if (gathered_bytes == 0) return;
    close_chunk(gathered, gathered_bytes);
    gathered_bytes = 0;
  }

  void add_payload(const std::byte* payload, uint32_t length) {
    if (gathered_bytes + length > kChunkRawBytesMax) close_gathered_chunk();
    for (; length >= kChunkRawBytesMax; payload += kChunkRawBytesMax, length -= kChunkRawBytesMax)
      close_chunk(payload, kChunkRawBytesMax);
    std::memcpy(gathered + gathered_bytes, payload, length);
    gathered_bytes += length;
  }
};

FrameBuilder::FrameBuilder(const Stream& stream) : state_(new State) { state_->stream = stream; }
FrameBuilder::~FrameBuilder() { delete state_; }

void FrameBuilder::set_acceleration(int acceleration) { state_->acceleration = acceleration; }

void FrameBuilder::begin(std::byte* buffer, uint64_t first_lsn, uint32_t era, uint32_t link) {
  AFTERIMAGE_ASSERT(reinterpret_cast<uintptr_t>(buffer) % alignof(FrameHeader) == 0,
                    "tables are written in place");
  State& state = *state_;
  state.buffer = buffer;
  state.stored_bytes = 0;
  state.gathered_bytes = 0;
  state.header = FrameHeader{};
  FrameHeader& header = state.header;
  std::memcpy(header.magic, kFrameMagic, sizeof kFrameMagic);
  header.version = kFrameVersion;
  header.header_bytes = sizeof(FrameHeader);
  header.group = state.stream.group;
  header.member = state.stream.member;
  header.epoch = state.stream.epoch;
  header.generation = state.stream.generation;
  header.first_lsn = first_lsn;
  header.era = era;
  header.codec = static_cast<uint16_t>(Codec::kLz4Block);
  header.link = link;
}

uint32_t FrameBuilder::record_count() const { return state_->header.record_count; }
uint32_t FrameBuilder::raw_bytes() const { return state_->header.raw_bytes + state_->gathered_bytes; }

bool FrameBuilder::add(const Record& record, const std::byte* payload) {
  State& state = *state_;
  const bool has_payload = record.kind == RecordKind::kWrite;
  const uint32_t payload_bytes = has_payload ? record.length : 0;
  AFTERIMAGE_ASSERT(payload_bytes <= kRecordBytesMax, "the frame's buffer");
  if (record_count() == kRecordsPerFrameMax || raw_bytes() + payload_bytes > kFrameRawBytesMax) return false;

  state.records()[state.header.record_count] = RecordEntry{
      .kind = static_cast<uint8_t>(record.kind),
      .flags = record.flags,
      .volume = record.volume,
      .length = record.length,
      .offset = record.offset,
      .time_ns = record.time_ns,
      .payload_offset = has_payload ? raw_bytes() : 0,
      .reserved = 0,
  };
  if (state.header.record_count == 0) state.header.first_time_ns = record.time_ns;
  state.header.last_time_ns = record.time_ns;
  ++state.header.record_count;
  if (has_payload) state.add_payload(payload, payload_bytes);
  return true;
}

FrameHeader FrameBuilder::finish() {
  State& state = *state_;
  FrameHeader& header = state.header;
  AFTERIMAGE_ASSERT(header.record_count > 0, "a frame without records has no LSNs");
  state.close_gathered_chunk();

  std::byte* at = state.buffer + sizeof(FrameHeader) + header.record_count * sizeof(RecordEntry);
  std::memcpy(at, state.chunks, header.chunk_count * sizeof(ChunkEntry));
  at += header.chunk_count * sizeof(ChunkEntry);
  const auto tables = static_cast<size_t>(at - state.buffer) - sizeof(FrameHeader);
  header.tables_crc32c = crc32c(state.buffer + sizeof(FrameHeader), tables);
  std::memmove(at, state.buffer + kPayloadStart, state.stored_bytes);
  at += state.stored_bytes;
  for (; (at - state.buffer) % 8 != 0; ++at) *at = std::byte{0};

  header.payload_bytes = state.stored_bytes;
  header.frame_bytes = static_cast<uint32_t>(at - state.buffer);
  header.last_lsn = header.first_lsn + header.record_count - 1;
  header.header_crc32c = crc32c(&header, offsetof(FrameHeader, header_crc32c));
  std::memcpy(state.buffer, &header, sizeof header);
  state.buffer = nullptr;
  return header;
}

}  // namespace afterimage
