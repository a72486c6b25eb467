#include "journal/frame.h"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "os/crc32c.h"

using namespace afterimage;

namespace {

using Random = std::mt19937_64;

struct AlignedBytes {
  explicit AlignedBytes(size_t bytes) : words(bytes / 8 + 1), size(bytes) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(words.data()); }
  std::span<const std::byte> span() const { return {reinterpret_cast<const std::byte*>(words.data()), size}; }
  std::vector<uint64_t> words;
  size_t size;
};

struct Sample {
  FrameBuilder::Record record;
  std::vector<std::byte> payload;
};

FrameBuilder::Stream stream() {
  FrameBuilder::Stream stream;
  stream.group.fill(0x11);
  stream.member.fill(0x22);
  stream.epoch = 3;
  stream.generation = 4;
  return stream;
}

std::vector<std::byte> payload_of(size_t bytes, bool compressible, Random& random) {
  std::vector<std::byte> payload(bytes);
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = compressible ? random() & 0x0101010101010101 : random();
    std::memcpy(payload.data() + at, &word, sizeof word);
  }
  return payload;
}

Sample write_of(uint32_t length, bool compressible, uint64_t time_ns, Random& random) {
  FrameBuilder::Record record{.kind = RecordKind::kWrite,
                              .flags = static_cast<uint8_t>(random() % 2),
                              .volume = static_cast<uint16_t>(random() % 64),
                              .length = length,
                              .offset = random() % 4096 * 512,
                              .time_ns = time_ns};
  return {record, payload_of(length, compressible, random)};
}

constexpr uint64_t kFirstTimeNs = 1000;

Sample random_sample(uint64_t time_ns, Random& random) {
  auto kind = static_cast<RecordKind>(1 + random() % 7);
  if (kind == RecordKind::kClock && time_ns != kFirstTimeNs)
    kind = RecordKind::kVoid;  // first in its frame, or not at all
  if (kind == RecordKind::kWrite || random() % 2 == 0) {
    // Mostly small, now and then up to a whole record.
    const uint32_t sectors = 1 + static_cast<uint32_t>(random() % (1u << (random() % 12)));
    return write_of(sectors * 512, random() % 2 == 0, time_ns, random);
  }
  FrameBuilder::Record record{
      .kind = kind, .volume = static_cast<uint16_t>(random() % 64), .time_ns = time_ns};
  if (kind == RecordKind::kZero) record.length = static_cast<uint32_t>(1 + random() % (1u << 21)) * 512;
  if (kind != RecordKind::kFlush && kind != RecordKind::kVoid) record.offset = random() % 9999 * 512;
  return {record, {}};
}

/// Decodes with the public functions only, and compares with what was put in.
void check_holds(const FrameView& view, const std::vector<Sample>& samples) {
  REQUIRE(view.records.size() == samples.size());
  std::vector<std::byte> raw(view.header->raw_bytes);
  for (size_t i = 0; i < view.chunks.size(); ++i) {
    const ChunkEntry& chunk = view.chunks[i];
    const auto stored = view.payload.subspan(chunk.stored_offset, chunk.stored_bytes & ~kChunkStoredRaw);
    REQUIRE(unpack_chunk(view, i, stored, raw.data() + chunk.raw_offset).ok());
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    const RecordEntry& entry = view.records[i];
    const FrameBuilder::Record& record = samples[i].record;
    REQUIRE(entry.kind == static_cast<uint8_t>(record.kind));
    REQUIRE(entry.flags == record.flags);
    REQUIRE(entry.volume == record.volume);
    REQUIRE(entry.length == record.length);
    REQUIRE(entry.offset == record.offset);
    REQUIRE(entry.time_ns == record.time_ns);
    if (record.kind != RecordKind::kWrite) continue;
    REQUIRE(std::memcmp(raw.data() + entry.payload_offset, samples[i].payload.data(), entry.length) == 0);
    const size_t first = chunk_at(view, entry.payload_offset);
    const size_t last = chunk_at(view, entry.payload_offset + entry.length - 1);
    if (entry.length <= kChunkRawBytesMax) REQUIRE(first == last);
    if (entry.length > kChunkRawBytesMax) REQUIRE(view.chunks[first].raw_offset == entry.payload_offset);
  }
}

AlignedBytes build(const std::vector<Sample>& samples) {
  AlignedBytes buffer(kFrameBytesMax);
  FrameBuilder builder(stream());
  builder.begin(buffer.data(), 100, 7, 0xabcd);
  for (const Sample& s : samples)
    REQUIRE(builder.add(s.record, s.payload.empty() ? nullptr : s.payload.data()));
  buffer.size = builder.finish().frame_bytes;
  return buffer;
}

AlignedBytes small_frame() {
  Random random(5);
  std::vector<Sample> samples;
  samples.push_back(write_of(512, true, 10, random));
  samples.push_back(
      {{.kind = RecordKind::kZero, .volume = 1, .length = 4096, .offset = 8192, .time_ns = 11}, {}});
  samples.push_back({{.kind = RecordKind::kFlush, .volume = 1, .time_ns = 12}, {}});
  return build(samples);
}

/// Makes both CRCs right again, so that what lies behind them is reached.
void seal(AlignedBytes& frame) {
  FrameHeader header;
  std::memcpy(&header, frame.data(), sizeof header);
  const uint64_t tables = uint64_t{header.record_count} * 32 + uint64_t{header.chunk_count} * 16;
  if (sizeof header + tables <= frame.size)
    header.tables_crc32c = crc32c(frame.data() + sizeof header, tables);
  header.header_crc32c = crc32c(&header, sizeof header - 4);
  std::memcpy(frame.data(), &header, sizeof header);
}

std::string code_of(const Result<FrameView>& result) { return result.ok() ? "" : result.error().code; }

}  // namespace

TEST_CASE("frame: random mixes of records come back as they went in") {
  const uint64_t seed = 20240601;
  CAPTURE(seed);
  Random random(seed);
  FrameBuilder builder(stream());
  AlignedBytes buffer(kFrameBytesMax);
  uint32_t link = 0;
  uint64_t lsn = 1;
  for (int round = 0; round < 40; ++round) {
    std::vector<Sample> samples;
    builder.begin(buffer.data(), lsn, 2, link);
    const size_t wanted = 1 + random() % 400;
    while (samples.size() < wanted) {
      Sample sample = random_sample(kFirstTimeNs + samples.size(), random);
      if (!builder.add(sample.record, sample.payload.empty() ? nullptr : sample.payload.data())) break;
      samples.push_back(std::move(sample));
    }
    CHECK(builder.record_count() == samples.size());
    const FrameHeader header = builder.finish();
    CHECK(header.link == link);
    CHECK(header.first_lsn == lsn);
    CHECK(header.last_lsn == lsn + samples.size() - 1);
    CHECK(header.frame_bytes % 8 == 0);
    const auto verified = verify_frame({buffer.data(), header.frame_bytes});
    REQUIRE_MESSAGE(verified.ok(), verified.error().message);
    CHECK(std::memcmp(verified->header, &header, sizeof header) == 0);
    check_holds(*verified, samples);
    link = header.header_crc32c;
    lsn = header.last_lsn + 1;
  }
}

TEST_CASE("frame: a single record of every size from a sector to a MiB") {
  Random random(9);
  for (uint32_t length : {512u, 1024u, 4096u, 65024u, 65536u, 66048u, 131072u, 131584u, 1048064u, 1048576u}) {
    for (bool compressible : {true, false}) {
      CAPTURE(length);
      CAPTURE(compressible);
      std::vector<Sample> samples;
      samples.push_back(write_of(length, compressible, 1, random));
      const AlignedBytes frame = build(samples);
      const auto verified = verify_frame(frame.span());
      REQUIRE(verified.ok());
      check_holds(*verified, samples);
      CHECK(verified->chunks.size() == (length + kChunkRawBytesMax - 1) / kChunkRawBytesMax);
      for (const ChunkEntry& chunk : verified->chunks)
        CHECK(((chunk.stored_bytes & kChunkStoredRaw) == 0) == compressible);
      if (compressible) CHECK(frame.size < length / 8 * 7 + 1024);
    }
  }
}

TEST_CASE("frame: the rest of a long record shares its chunk with what follows") {
  Random random(10);
  std::vector<Sample> samples;
  samples.push_back(write_of(4096, false, 1, random));
  samples.push_back(write_of(65536 + 512, false, 2, random));
  samples.push_back(write_of(65024, false, 3, random));
  samples.push_back(write_of(512, false, 4, random));
  const AlignedBytes frame = build(samples);
  const auto verified = verify_frame(frame.span());
  REQUIRE(verified.ok());
  check_holds(*verified, samples);
  REQUIRE(verified->chunks.size() == 4);
  CHECK(chunk_raw_bytes(*verified, 0) == 4096);
  CHECK(chunk_raw_bytes(*verified, 1) == 65536);
  CHECK(chunk_raw_bytes(*verified, 2) == 65536);
  CHECK(chunk_raw_bytes(*verified, 3) == 512);
}

TEST_CASE("frame: a full frame refuses the next record and keeps what it has") {
  Random random(11);
  AlignedBytes buffer(kFrameBytesMax);
  FrameBuilder builder(stream());
  SUBCASE("by bytes") {
    builder.begin(buffer.data(), 1, 1, 0);
    const Sample large = write_of(kRecordBytesMax - 512, false, 1, random);
    const Sample small = write_of(512, false, 2, random);
    REQUIRE(builder.add(large.record, large.payload.data()));
    REQUIRE(builder.add(small.record, small.payload.data()));
    CHECK_FALSE(builder.add(small.record, small.payload.data()));
    CHECK(builder.raw_bytes() == kFrameRawBytesMax);
    const FrameHeader header = builder.finish();
    CHECK(header.record_count == 2);
    CHECK(header.frame_bytes <= kFrameBytesMax);
    CHECK(verify_frame({buffer.data(), header.frame_bytes}).ok());
  }
  SUBCASE("by records, with the most chunks that there can be") {
    builder.begin(buffer.data(), 1, 1, 0);
    uint64_t time = 1;
    // Two neighbours never fit into one chunk: as many chunks as possible.
    for (int i = 0; i < 15; ++i) {
      const Sample a = write_of(512, false, time++, random);
      const Sample b = write_of(65536, false, time++, random);
      REQUIRE(builder.add(a.record, a.payload.data()));
      REQUIRE(builder.add(b.record, b.payload.data()));
    }
    while (builder.record_count() < kRecordsPerFrameMax)
      REQUIRE(builder.add({.kind = RecordKind::kFlush, .time_ns = time++}, nullptr));
    CHECK_FALSE(builder.add({.kind = RecordKind::kFlush, .time_ns = time++}, nullptr));
    const FrameHeader header = builder.finish();
    CHECK(header.chunk_count == 30);
    CHECK(verify_frame({buffer.data(), header.frame_bytes}).ok());
  }
}

TEST_CASE("frame: every single flipped bit is refused") {
  AlignedBytes frame = small_frame();
  REQUIRE(verify_frame(frame.span()).ok());
  for (size_t bit = 0; bit < frame.size * 8; ++bit) {
    frame.data()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const auto verified = verify_frame(frame.span());
    REQUIRE_MESSAGE(!verified.ok(), "bit ", bit);
    frame.data()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
  CHECK(verify_frame(frame.span()).ok());
}

TEST_CASE("frame: every truncation is refused, and so are bytes behind it") {
  AlignedBytes frame = small_frame();
  for (size_t bytes = 0; bytes < frame.size; ++bytes) {
    AlignedBytes cut(bytes);
    std::memcpy(cut.data(), frame.data(), bytes);
    REQUIRE_MESSAGE(code_of(verify_frame(cut.span())) == "FRAME_TRUNCATED", "at ", bytes);
  }
  AlignedBytes longer(frame.size + 8);
  std::memcpy(longer.data(), frame.data(), frame.size);
  CHECK(code_of(verify_frame(longer.span())) == "FRAME_CORRUPT");
}

TEST_CASE("frame: tables are readable without the payload") {
  AlignedBytes frame = small_frame();
  const auto whole = parse_frame_tables(frame.span());
  REQUIRE(whole.ok());
  CHECK(whole->payload.size() == whole->header->payload_bytes);
  const size_t tables = sizeof(FrameHeader) + 3 * sizeof(RecordEntry) + sizeof(ChunkEntry);
  const auto bare = parse_frame_tables(frame.span().first(tables));
  REQUIRE(bare.ok());
  CHECK(bare->payload.empty());
  CHECK(bare->records.size() == 3);
  CHECK(code_of(parse_frame_tables(frame.span().first(tables - 1))) == "FRAME_TRUNCATED");
}

TEST_CASE("frame: a header whose CRC is right but whose counts lie is refused") {
  const auto refused = [](auto change) {
    AlignedBytes frame = small_frame();
    auto* header = reinterpret_cast<FrameHeader*>(frame.data());
    change(*header);
    seal(frame);
    return code_of(verify_frame(frame.span()));
  };
  CHECK(refused([](FrameHeader&) {}) == "");
  CHECK(refused([](FrameHeader& h) { h.version = 2; }) == "FRAME_VERSION");
  CHECK(refused([](FrameHeader& h) { h.header_bytes = 168; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.flags = 1u << 16; }) == "FRAME_VERSION");
  CHECK(refused([](FrameHeader& h) { h.flags = 1; }) == "");  // not critical
  CHECK(refused([](FrameHeader& h) { h.codec = 2; }) == "FRAME_VERSION");
  CHECK(refused([](FrameHeader& h) { h.record_count = 0; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.record_count = 2; }) == "FRAME_CORRUPT");
  const auto begins_at = [&](uint64_t lsn) {
    return refused([=](FrameHeader& h) { h.first_lsn = lsn, h.last_lsn = lsn + h.record_count - 1; });
  };
  CHECK(begins_at(INT64_MAX - 2) == "");  // three records: the last one can be
  CHECK(begins_at(INT64_MAX - 1) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.record_count = 0xffffffff; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.chunk_count = 0; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.chunk_count = 0x10000001; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.raw_bytes += 512; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.raw_bytes = 0; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.payload_bytes += 8, h.frame_bytes += 8; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.payload_bytes = 0xfffffff8; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.frame_bytes += 8; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.first_lsn = 0, h.last_lsn = 2; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.last_lsn += 1; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.first_lsn = UINT64_MAX, h.last_lsn = 1; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.first_time_ns = 9; }) == "FRAME_CORRUPT");
  CHECK(refused([](FrameHeader& h) { h.last_time_ns = 13; }) == "FRAME_CORRUPT");
  const auto ends_at = [&](uint64_t time_ns) {
    return refused([=](FrameHeader& h) {
      reinterpret_cast<RecordEntry*>(&h + 1)[h.record_count - 1].time_ns = h.last_time_ns = time_ns;
    });
  };
  CHECK(ends_at(INT64_MAX) == "");
  CHECK(ends_at(1ull << 63) == "FRAME_CORRUPT");
}

TEST_CASE("frame: tables whose CRC is right but whose entries lie are refused") {
  const auto refused = [](auto change) {
    AlignedBytes frame = small_frame();
    auto* records = reinterpret_cast<RecordEntry*>(frame.data() + sizeof(FrameHeader));
    auto* chunks = reinterpret_cast<ChunkEntry*>(records + 3);
    change(records, chunks);
    seal(frame);
    return code_of(verify_frame(frame.span()));
  };
  CHECK(refused([](RecordEntry*, ChunkEntry*) {}) == "");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[0].kind = 0; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].kind = 8; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].kind = 1; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[2].kind = 1; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[0].volume = 64; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[0].length = 1024; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[0].length = 511; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].length = 0; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].length = kZeroRecordBytesMax + 512; }) ==
        "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[2].length = 512; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].offset = 1; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].offset = UINT64_MAX - 511; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[1].time_ns = r[0].time_ns; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[0].payload_offset = 512; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry* r, ChunkEntry*) { r[2].payload_offset = 512; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry*, ChunkEntry* c) { c[0].raw_offset = 8; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry*, ChunkEntry* c) { c[0].stored_offset = 8; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry*, ChunkEntry* c) { c[0].stored_bytes = 0; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry*, ChunkEntry* c) { c[0].stored_bytes += 1; }) == "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry*, ChunkEntry* c) { c[0].stored_bytes |= kChunkStoredRaw; }) ==
        "FRAME_CORRUPT");
  CHECK(refused([](RecordEntry*, ChunkEntry* c) { c[0].crc32c ^= 1; }) == "FRAME_CORRUPT");
}

TEST_CASE("frame: a chunk cut inside a small record is refused") {
  Random random(12);
  std::vector<Sample> samples;
  samples.push_back(write_of(61440, false, 1, random));
  samples.push_back(write_of(65536, false, 2, random));
  AlignedBytes frame = build(samples);
  auto* chunks = reinterpret_cast<ChunkEntry*>(frame.data() + sizeof(FrameHeader) + 2 * sizeof(RecordEntry));
  // Both chunks stay within their limits, and their CRCs right: only the cut is wrong.
  chunks[0].stored_bytes += 512;
  chunks[1].raw_offset += 512;
  chunks[1].stored_offset += 512;
  chunks[1].stored_bytes -= 512;
  const std::byte* payload = reinterpret_cast<std::byte*>(chunks + 2);
  chunks[0].crc32c = crc32c(payload, 61440 + 512);
  chunks[1].crc32c = crc32c(payload + 61440 + 512, 65536 - 512);
  seal(frame);
  CHECK(code_of(verify_frame(frame.span())) == "FRAME_CORRUPT");
}

TEST_CASE("frame: a chunk that does not decompress to its length is refused") {
  AlignedBytes frame = small_frame();
  const auto verified = verify_frame(frame.span());
  REQUIRE(verified.ok());
  const FrameView& view = *verified;
  std::byte raw[512];
  std::vector<std::byte> stored(view.payload.begin(), view.payload.end());
  REQUIRE(unpack_chunk(view, 0, stored, raw).ok());
  CHECK_FALSE(unpack_chunk(view, 0, std::span(stored).first(stored.size() - 1), raw).ok());
  stored[0] ^= std::byte{0x10};
  CHECK_FALSE(unpack_chunk(view, 0, stored, raw).ok());
  // The same with the CRC made right: LZ4 itself must refuse it, within its bounds.
  auto* chunk = const_cast<ChunkEntry*>(&view.chunks[0]);
  std::fill(stored.begin(), stored.end(), std::byte{0xff});
  chunk->crc32c = crc32c(stored.data(), stored.size());
  CHECK_FALSE(unpack_chunk(view, 0, stored, raw).ok());
}
