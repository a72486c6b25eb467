#include "journal/frame.h"

#include <algorithm>
#include <cstring>

#include "lz4.h"
#include "os/assert.h"
#include "os/crc32c.h"

namespace afterimage {
namespace {

constexpr uint32_t kSector = 512;

Error corrupt(const char* what) { return Error{"FRAME_CORRUPT", std::string("frame: ") + what}; }
Error truncated() { return Error{"FRAME_TRUNCATED", "frame: shorter than its header says"}; }
Error foreign(const char* what) { return Error{"FRAME_VERSION", std::string("frame: ") + what}; }

uint64_t table_bytes(const FrameHeader& header) {
  return uint64_t{header.record_count} * sizeof(RecordEntry) +
         uint64_t{header.chunk_count} * sizeof(ChunkEntry);
}

/// What is wrong with the counts and lengths of a header whose CRC is right; null if nothing.
const char* fault_in_counts(const FrameHeader& header) {
  if (header.record_count == 0 || header.record_count > kRecordsPerFrameMax)
    return "record count out of range";
  if (header.chunk_count > kChunksPerFrameMax) return "too many chunks";
  if (header.raw_bytes > kFrameRawBytesMax) return "payload too long";
  if (header.payload_bytes > header.raw_bytes) return "stored payload longer than the payload";
  if ((header.raw_bytes == 0) != (header.chunk_count == 0))
    return "chunks without payload, or payload without chunks";
  const uint64_t sum = sizeof(FrameHeader) + table_bytes(header) + header.payload_bytes;
  if (header.frame_bytes != (sum + 7) / 8 * 8) return "frame length is not the sum of its parts";
  if (header.first_lsn == 0 || header.last_lsn < header.first_lsn ||
      header.last_lsn - header.first_lsn != header.record_count - 1) {
    return "LSN range does not match the record count";
  }
  // The records' times rise from the one to the other.
  if (header.last_lsn > kFrameNumberMax || header.first_time_ns > kFrameNumberMax ||
      header.last_time_ns > kFrameNumberMax)
    return "an LSN or a time beyond all reason";
  return nullptr;
}

const char* fault_in_record(const RecordEntry& record) {
  if (record.volume > kVolumeNumberMax) return "volume number out of range";
  if (record.offset % kSector != 0 || record.length % kSector != 0) return "record not in whole sectors";
  if (record.offset > uint64_t{INT64_MAX} - record.length) return "record beyond any volume";
  uint32_t length_max = 0;
  switch (static_cast<RecordKind>(record.kind)) {
    case RecordKind::kWrite:
      length_max = kRecordBytesMax;
      break;
    case RecordKind::kZero:
      length_max = kZeroRecordBytesMax;
      break;
    case RecordKind::kFlush:
    case RecordKind::kResize:
    case RecordKind::kClock:
    case RecordKind::kMembership:
    case RecordKind::kVoid:
      break;
    default:
      return "unknown record kind";
  }
  if (record.length > length_max || (length_max > 0 && record.length == 0))
    return "record length out of range";
  return nullptr;
}

Outcome decompress(std::span<const std::byte> stored, uint32_t raw_bytes, std::byte* into) {
  // LZ4 1.9.2 trusts the signs of its sizes (CVE-2021-3520); both were bounded by parse_frame_tables.
  static_assert(kChunkRawBytesMax <= LZ4_MAX_INPUT_SIZE);
  const int unpacked =
      LZ4_decompress_safe(reinterpret_cast<const char*>(stored.data()), reinterpret_cast<char*>(into),
                          static_cast<int>(stored.size()), static_cast<int>(raw_bytes));
  if (unpacked != static_cast<int>(raw_bytes)) return corrupt("chunk does not decompress");
  return Nothing{};
}

/// Each chunk follows the one before it without a gap, is of a permitted length, and all together are the
/// payload.
const char* fault_in_chunks(const FrameHeader& header, std::span<const ChunkEntry> chunks) {
  uint64_t stored = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const uint64_t begin = chunks[i].raw_offset;
    const uint64_t end = i + 1 < chunks.size() ? chunks[i + 1].raw_offset : header.raw_bytes;
    if (i == 0 && begin != 0) return "payload does not begin with a chunk";
    if (end <= begin || end - begin > kChunkRawBytesMax) return "chunk length out of range";
    const uint32_t bytes = chunks[i].stored_bytes & ~kChunkStoredRaw;
    const bool raw = (chunks[i].stored_bytes & kChunkStoredRaw) != 0;
    if (raw ? bytes != end - begin : bytes == 0 || bytes >= end - begin)
      return "stored chunk length out of range";
    if (chunks[i].stored_offset != stored) return "chunks do not follow each other";
    stored += bytes;
  }
  return stored == header.payload_bytes ? nullptr : "chunks do not fill the payload";
}

/// Records are within limits, their times rise, their payloads follow each other, and chunks are cut where
/// the chunking rule allows it, so that a record of at most 64 KiB costs one chunk.
const char* fault_in_records(const FrameHeader& header, std::span<const RecordEntry> records,
                             std::span<const ChunkEntry> chunks) {
  uint64_t raw = 0;
  size_t chunk = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const RecordEntry& record = records[i];
    if (const char* fault = fault_in_record(record)) return fault;
    if (i > 0 && record.time_ns <= records[i - 1].time_ns) return "record times do not rise";
    if (i > 0 && static_cast<RecordKind>(record.kind) == RecordKind::kClock)
      return "a clock record inside a frame";
    const bool has_payload = static_cast<RecordKind>(record.kind) == RecordKind::kWrite;
    if (record.payload_offset != (has_payload ? raw : 0)) return "payload offset out of order";
    if (!has_payload) continue;
    const uint64_t end = raw + record.length;
    for (; chunk < chunks.size() && chunks[chunk].raw_offset < end; ++chunk) {
      const uint64_t into = chunks[chunk].raw_offset - raw;
      if (into % kChunkRawBytesMax != 0) return "chunk cut inside a record";
    }
    raw = end;
  }
  if (raw != header.raw_bytes) return "records do not fill the payload";
  if (records.front().time_ns != header.first_time_ns || records.back().time_ns != header.last_time_ns) {
    return "time range does not match the records";
  }
  return nullptr;
}

}  // namespace

Result<FrameHeader> parse_frame_header(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(FrameHeader)) return truncated();
  FrameHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kFrameMagic, sizeof kFrameMagic) != 0) return corrupt("no frame begins here");
  // Before the CRC, which lies elsewhere in a header of another layout.
  if (header.version > kFrameVersion) {
    FrameHeader ours = header;
    ours.version = kFrameVersion;
    const bool rotted = crc32c(&ours, offsetof(FrameHeader, header_crc32c)) == header.header_crc32c;
    return rotted ? corrupt("version") : foreign("unknown version");
  }
  // A header torn by a power loss ends in zeroes: that is no version.
  if (header.version != kFrameVersion || header.header_bytes != sizeof header)
    return corrupt("version or header length");
  if (crc32c(&header, offsetof(FrameHeader, header_crc32c)) != header.header_crc32c)
    return corrupt("header CRC");
  if ((header.flags & kFlagsCritical) != 0) return foreign("unknown critical flag");
  if (header.codec != static_cast<uint16_t>(Codec::kLz4Block)) return foreign("unknown codec");
  if (const char* fault = fault_in_counts(header)) return corrupt(fault);
  return header;
}

Result<FrameView> parse_frame_tables(std::span<const std::byte> bytes) {
  AFTERIMAGE_ASSERT(reinterpret_cast<uintptr_t>(bytes.data()) % alignof(FrameHeader) == 0,
                    "structures are read in place");
  const Result<FrameHeader> parsed = parse_frame_header(bytes);
  if (!parsed.ok()) return parsed.error();
  const FrameHeader& header = *parsed;
  const uint64_t tables = table_bytes(header);
  if (bytes.size() - sizeof(FrameHeader) < tables) return truncated();

  const std::byte* at = bytes.data() + sizeof(FrameHeader);
  if (crc32c(at, tables) != header.tables_crc32c) return corrupt("table CRC");
  FrameView view;
  view.header = reinterpret_cast<const FrameHeader*>(bytes.data());
  view.records = {reinterpret_cast<const RecordEntry*>(at), header.record_count};
  at += header.record_count * sizeof(RecordEntry);
  view.chunks = {reinterpret_cast<const ChunkEntry*>(at), header.chunk_count};
  at += header.chunk_count * sizeof(ChunkEntry);
  if (bytes.size() >= header.frame_bytes) view.payload = {at, header.payload_bytes};

  if (const char* fault = fault_in_chunks(header, view.chunks)) return corrupt(fault);
  if (const char* fault = fault_in_records(header, view.records, view.chunks)) return corrupt(fault);
  return view;
}

Result<FrameView> verify_frame(std::span<const std::byte> frame) {
  Result<FrameView> parsed = parse_frame_tables(frame);
  if (!parsed.ok()) return parsed;
  const FrameView& view = *parsed;
  if (frame.size() < view.header->frame_bytes) return truncated();
  if (frame.size() > view.header->frame_bytes) return corrupt("bytes after its end");
  for (const ChunkEntry& chunk : view.chunks) {
    const std::byte* stored = view.payload.data() + chunk.stored_offset;
    if (crc32c(stored, chunk.stored_bytes & ~kChunkStoredRaw) != chunk.crc32c) return corrupt("chunk CRC");
  }
  for (const std::byte* p = view.payload.data() + view.payload.size(); p < frame.data() + frame.size(); ++p) {
    if (*p != std::byte{0}) return corrupt("padding is not zero");
  }
  return parsed;
}

size_t chunk_at(const FrameView& view, uint32_t raw_offset) {
  AFTERIMAGE_ASSERT(raw_offset < view.header->raw_bytes, "a read outside the payload");
  const auto next =
      std::upper_bound(view.chunks.begin(), view.chunks.end(), raw_offset,
                       [](uint32_t offset, const ChunkEntry& c) { return offset < c.raw_offset; });
  return static_cast<size_t>(next - view.chunks.begin()) - 1;
}

uint32_t chunk_raw_bytes(const FrameView& view, size_t chunk) {
  const uint32_t end =
      chunk + 1 < view.chunks.size() ? view.chunks[chunk + 1].raw_offset : view.header->raw_bytes;
  return end - view.chunks[chunk].raw_offset;
}

Outcome unpack_chunk(const FrameView& view, size_t chunk, std::span<const std::byte> stored,
                     std::byte* into) {
  const ChunkEntry& entry = view.chunks[chunk];
  const uint32_t raw_bytes = chunk_raw_bytes(view, chunk);
  if (stored.size() != (entry.stored_bytes & ~kChunkStoredRaw)) return truncated();
  if (crc32c(stored.data(), stored.size()) != entry.crc32c) return corrupt("chunk CRC");
  if ((entry.stored_bytes & kChunkStoredRaw) != 0) {
    std::memcpy(into, stored.data(), stored.size());
    return Nothing{};
  }
  return decompress(stored, raw_bytes, into);
}

Outcome unpack_all(const FrameView& view, std::byte* scratch) {
  for (size_t i = 0; i < view.chunks.size(); ++i) {
    const ChunkEntry& chunk = view.chunks[i];
    if ((chunk.stored_bytes & kChunkStoredRaw) != 0) continue;
    const auto stored = view.payload.subspan(chunk.stored_offset, chunk.stored_bytes);
    if (Outcome unpacked = decompress(stored, chunk_raw_bytes(view, i), scratch); !unpacked.ok())
      return unpacked;
  }
  return Nothing{};
}

}  // namespace afterimage
