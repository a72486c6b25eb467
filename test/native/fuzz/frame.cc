// Structured-random mutation of frames: what the wire or a disk may bring. Half of the mutants have their
// CRCs made right again, so that the checks behind them are reached. Meant to run under ASan: a finding is a
// crash.
//   fuzz-frame [--seed N] [--seconds S]
#include "journal/frame.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fuzz/fuzz_run.h"
#include "os/crc32c.h"

using namespace afterimage;

namespace {

using Random = std::mt19937_64;
using Words = std::vector<uint64_t>;  // 8-byte aligned, as verify_frame requires

std::byte* bytes_of(Words& words) { return reinterpret_cast<std::byte*>(words.data()); }

Words sample_frame(Random& random) {
  FrameBuilder builder(FrameBuilder::Stream{});
  Words buffer(kFrameBytesMax / 8);
  builder.begin(bytes_of(buffer), 1 + random() % 1000, 1, static_cast<uint32_t>(random()));
  std::vector<std::byte> payload(kRecordBytesMax);
  const bool compressible = random() % 2 == 0;
  for (size_t i = 0; i < 65536 * 2; ++i)
    payload[i] = static_cast<std::byte>(compressible ? random() % 2 : random());
  const size_t records = 1 + random() % 12;
  for (size_t i = 0; i < records; ++i) {
    FrameBuilder::Record record;
    record.kind = static_cast<RecordKind>(random() % 3 == 0 ? 1 + random() % 7 : 1);
    record.time_ns = 100 + i;
    record.offset = random() % 100 * 512;
    if (record.kind == RecordKind::kWrite || record.kind == RecordKind::kZero)
      record.length = static_cast<uint32_t>(1 + random() % (random() % 4 == 0 ? 256 : 8)) * 512;
    builder.add(record, payload.data());
  }
  const uint32_t frame_bytes = builder.finish().frame_bytes;
  buffer.resize(frame_bytes / 8);
  return buffer;
}

uint64_t interesting(Random& random) {
  constexpr uint64_t kValues[] = {
      0,         1,         7,          8,          511,        512,        65535,      65536,
      65537,     1u << 20,  0x7fffffff, 0x80000000, 0x80000001, 0xffffffff, UINT64_MAX, UINT64_MAX - 511,
      INT64_MAX, 1ull << 32};
  return kValues[random() % std::size(kValues)];
}

void mutate(std::byte* frame, size_t size, Random& random) {
  // Mostly where the structure is: header and tables.
  const size_t span = random() % 4 == 0 ? size : std::min<size_t>(size, 160 + 32 * 12 + 16 * 8);
  for (uint64_t n = 1 + random() % 4; n > 0; --n) {
    const size_t at = random() % span;
    switch (random() % 4) {
      case 0:
        frame[at] ^= static_cast<std::byte>(1u << (random() % 8));
        break;
      case 1:
        frame[at] = static_cast<std::byte>(random());
        break;
      case 2: {
        const auto value = static_cast<uint32_t>(interesting(random));
        if (at / 4 * 4 + 4 <= size) std::memcpy(frame + at / 4 * 4, &value, 4);
        break;
      }
      default: {
        uint64_t value;
        if (at / 8 * 8 + 8 > size) break;
        std::memcpy(&value, frame + at / 8 * 8, 8);
        value = random() % 2 == 0 ? interesting(random) : value + random() % 1025 - 512;
        std::memcpy(frame + at / 8 * 8, &value, 8);
      }
    }
  }
}

void seal(std::byte* frame, size_t size, Random& random) {
  FrameHeader header;
  if (size < sizeof header) return;
  std::memcpy(&header, frame, sizeof header);
  const uint64_t chunk_table = sizeof header + uint64_t{header.record_count} * sizeof(RecordEntry);
  const uint64_t tables_end = chunk_table + uint64_t{header.chunk_count} * sizeof(ChunkEntry);
  if (random() % 4 != 0) {  // the lengths agree again
    std::memcpy(header.magic, kFrameMagic, sizeof kFrameMagic);
    header.frame_bytes = static_cast<uint32_t>((tables_end + header.payload_bytes + 7) / 8 * 8);
    header.last_lsn = header.first_lsn + header.record_count - 1;
  }
  if (tables_end <= size) {
    for (uint64_t at = chunk_table; at < tables_end; at += sizeof(ChunkEntry)) {
      ChunkEntry chunk;
      std::memcpy(&chunk, frame + at, sizeof chunk);
      const uint64_t stored = chunk.stored_bytes & ~kChunkStoredRaw;
      if (tables_end + chunk.stored_offset + stored <= size)
        chunk.crc32c = crc32c(frame + tables_end + chunk.stored_offset, stored);
      std::memcpy(frame + at, &chunk, sizeof chunk);
    }
    header.tables_crc32c = crc32c(frame + sizeof header, tables_end - sizeof header);
  }
  header.header_crc32c = crc32c(&header, offsetof(FrameHeader, header_crc32c));
  std::memcpy(frame, &header, sizeof header);
}

struct Tally {
  uint64_t unpacked = 0, refused = 0, writes = 0;
};

/// What a reader of an accepted frame relies on.
void use(const FrameView& view, Tally* tally) {
  for (size_t i = 0; i < view.chunks.size(); ++i) {
    const ChunkEntry& chunk = view.chunks[i];
    const uint32_t raw_bytes = chunk_raw_bytes(view, i);
    const auto into = std::make_unique<std::byte[]>(raw_bytes);  // exactly as long: ASan sees one byte more
    const uint32_t stored = chunk.stored_bytes & ~kChunkStoredRaw;
    const auto piece = view.payload.subspan(chunk.stored_offset, stored);
    ++(unpack_chunk(view, i, piece, into.get()).ok() ? tally->unpacked : tally->refused);
  }
  for (const RecordEntry& record : view.records) {
    if (record.kind != static_cast<uint8_t>(RecordKind::kWrite)) continue;
    ++tally->writes;
    const size_t first = chunk_at(view, record.payload_offset);
    const size_t last = chunk_at(view, record.payload_offset + record.length - 1);
    if (record.length <= kChunkRawBytesMax && first != last) std::abort();
  }
}

}  // namespace

int main(int argc, char** argv) {
  test::FuzzRun run("frame", argc, argv);
  Random random(run.seed());
  std::vector<Words> corpus;
  for (int i = 0; i < 32; ++i) corpus.push_back(sample_frame(random));

  uint64_t mutants = 0, tables = 0, altered = 0;
  Tally tally;
  for (; !run.is_over(); ++mutants) {
    Words& sample = corpus[random() % corpus.size()];
    size_t size = sample.size() * 8;
    if (random() % 8 == 0) size = random() % (size + 1);
    // A block of exactly `size` bytes, so that ASan sees a read behind it.
    const std::unique_ptr<std::byte[]> frame(new std::byte[size]);
    if (size > 0) std::memcpy(frame.get(), sample.data(), size);
    if (size > 0) mutate(frame.get(), size, random);
    if (random() % 2 == 0) seal(frame.get(), size, random);
    const std::span<const std::byte> bytes(frame.get(), size);
    if (parse_frame_tables(bytes).ok()) ++tables;
    const auto verified = verify_frame(bytes);
    if (!verified.ok()) continue;
    if (std::memcmp(frame.get(), sample.data(), size) != 0) ++altered;
    use(*verified, &tally);
  }
  std::printf("fuzz frame: %llu mutants, no finding\n", static_cast<unsigned long long>(mutants));
  run.expect("mutants with readable tables", tables, mutants, 10);
  run.expect("altered frames accepted", altered, mutants, 20);
  run.expect("chunks of them unpacked", tally.unpacked, mutants, 20);
  run.expect("chunks of them refused", tally.refused, mutants, 1000);
  run.expect("writes in them looked up", tally.writes, mutants, 20);
  return run.exit_status();
}
