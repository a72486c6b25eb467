#include "journal/journal_writer.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>

#include "device/block_device.h"
#include "journal_history.h"
#include "os/crc32c.h"
#include "writer_fixture.h"

using namespace afterimage;

TEST_CASE("what was acknowledged lies in linked segments, whole and in order") {
  const JournalHistory history = large_history();
  Journal journal(history);
  Bytes expected;
  for (const HistoryGeneration& generation : history.generations) {
    REQUIRE(journal.begin(generation).ok());
    CHECK(journal->position().last_lsn == generation.first_lsn - 1);
    for (const HistoryFrame& frame : generation.frames) {
      const Answer answer = journal.append(frame);
      REQUIRE(answer.ok());
      CHECK(answer->durable_lsn == frame.header.last_lsn);
      append_bytes(&expected, frame);
    }
    const JournalWriter::Position position = journal->position();
    CHECK(position.epoch == generation.epoch);
    CHECK(position.generation == generation.generation);
    CHECK(position.last_lsn == generation.frames.back().header.last_lsn);
    CHECK(position.link == generation.frames.back().header.header_crc32c);
  }
  CHECK(journal.stream() == expected);
  CHECK(journal.written.segments.size() >= 4);
  const SegmentInfo* previous = nullptr;
  for (const auto& [first_lsn, info] : journal.written.segments) {
    const auto scan = scan_segment(info.path, true);
    REQUIRE(scan.ok());
    CHECK(scan->info.path == info.path);
    CHECK(scan->info.last_lsn == info.last_lsn);
    CHECK(scan->info.bytes == info.bytes);
    CHECK(scan->info.link == info.link);
    CHECK(scan->info.frames == info.frames);
    CHECK(scan->info.raw_bytes == info.raw_bytes);
    CHECK(scan->info.sealed == info.sealed);
    CHECK(info.sealed == (first_lsn != journal.written.segments.rbegin()->first));
    if (info.sealed) CHECK(std::filesystem::file_size(info.path) == info.bytes);
    if (previous != nullptr && previous->generation == info.generation)
      CHECK(info.first_lsn == previous->last_lsn + 1);
    previous = &info;
  }
}

TEST_CASE("a refused frame leaves every file as it was, and stops what is queued behind it") {
  const JournalHistory history = small_history();
  const HistoryGeneration& generation = history.generations.front();
  const auto& frames = generation.frames;
  REQUIRE(frames.size() > 6);
  Random random(1);
  const FrameBuilder::Stream stream{history.group, history.member, generation.epoch, generation.generation};
  const uint64_t next = frames[2].header.last_lsn + 1;
  const uint32_t link = frames[2].header.header_crc32c;
  const uint64_t last_ns = frames[2].header.last_time_ns;
  const FrameBuilder::Record write{
      .kind = RecordKind::kWrite, .volume = 3, .length = 512, .time_ns = last_ns + 1};

  struct Refusal {
    const char* what;
    const char* code;
    HistoryFrame frame;
  };
  std::vector<Refusal> refusals;
  const auto refuse = [&](const char* what, const char* code, HistoryFrame frame) {
    refusals.push_back({what, code, std::move(frame)});
  };
  const auto altered = [&](auto change) {
    HistoryFrame frame = frames[3];
    change(frame);
    return frame;
  };
  const auto stranger = [&](auto change, uint64_t first_lsn, uint32_t linked) {
    FrameBuilder::Stream other = stream;
    change(other);
    return make_frame(other, first_lsn, linked, {write}, random);
  };
  const auto same = [](FrameBuilder::Stream&) {};
  refuse("one byte short", "FRAME_TRUNCATED", altered([](HistoryFrame& f) { f.header.frame_bytes -= 1; }));
  refuse("a header only", "FRAME_TRUNCATED", altered([](HistoryFrame& f) { f.header.frame_bytes = 160; }));
  refuse("nothing", "FRAME_TRUNCATED", altered([](HistoryFrame& f) { f.header.frame_bytes = 0; }));
  refuse("a bit of the header", "FRAME_CORRUPT",
         altered([](HistoryFrame& f) { f.data()[90] ^= std::byte{1}; }));
  refuse("a bit of the tables", "FRAME_CORRUPT",
         altered([](HistoryFrame& f) { f.data()[170] ^= std::byte{1}; }));
  refuse("a bit of the payload", "FRAME_CORRUPT",
         altered([](HistoryFrame& f) { f.data()[f.bytes() - 9] ^= std::byte{1}; }));
  HistoryFrame undone = make_frame(stream, next, link, {write}, random);
  {
    auto* const header = reinterpret_cast<FrameHeader*>(undone.data());
    auto* const chunk =
        reinterpret_cast<ChunkEntry*>(undone.data() + sizeof(FrameHeader) + sizeof(RecordEntry));
    auto* const payload = reinterpret_cast<std::byte*>(chunk + 1);
    chunk->stored_bytes = 256;  // of which LZ4 makes nothing
    std::memset(payload, 0xff, chunk->stored_bytes);
    header->payload_bytes = chunk->stored_bytes;
    header->frame_bytes -= 256;
    undone.header.frame_bytes -= 256;
    chunk->crc32c = crc32c(payload, chunk->stored_bytes);
    header->tables_crc32c = crc32c(header + 1, sizeof(RecordEntry) + sizeof(ChunkEntry));
    header->header_crc32c = crc32c(header, offsetof(FrameHeader, header_crc32c));
    REQUIRE(verify_frame({undone.data(), undone.bytes()}).ok());
  }
  refuse("a chunk that does not decompress", "FRAME_CORRUPT", std::move(undone));
  refuse("another version", "FRAME_VERSION", altered([](HistoryFrame& f) {
           f.data()[8] = std::byte{9};
           const uint32_t crc = crc32c(f.data(), offsetof(FrameHeader, header_crc32c));
           std::memcpy(f.data() + offsetof(FrameHeader, header_crc32c), &crc, sizeof crc);
         }));
  refuse("a bit of the version", "FRAME_CORRUPT",
         altered([](HistoryFrame& f) { f.data()[8] ^= std::byte{8}; }));
  refuse("repeated", "FRAME_REPEATED", frames[2]);
  refuse("repeated from the start", "FRAME_REPEATED", frames[0]);
  refuse("the one after the next", "FRAME_GAP", frames[4]);
  refuse("another group", "FRAME_FOREIGN", stranger([](auto& s) { s.group[0] ^= 1; }, next, link));
  refuse("another member", "FRAME_FOREIGN", stranger([](auto& s) { s.member[15] ^= 1; }, next, link));
  refuse("a writer that was replaced", "FRAME_FENCED", stranger([](auto& s) { --s.epoch; }, next, link));
  refuse("a writer not yet admitted", "FRAME_FENCED", stranger([](auto& s) { ++s.epoch; }, next, link));
  refuse("the next generation", "FRAME_GENERATION", stranger([](auto& s) { ++s.generation; }, next, link));
  refuse("the previous generation", "FRAME_GENERATION",
         stranger([](auto& s) { --s.generation; }, next, link));
  refuse("another history", "FRAME_LINK", stranger(same, next, link ^ 1));
  refuse("no link", "FRAME_LINK", stranger(same, next, 0));
  FrameBuilder::Record bad = write;
  bad.volume = 4;
  refuse("a volume not listed", "RECORD_INVALID", make_frame(stream, next, link, {bad}, random));
  bad = write;
  bad.volume = 60;
  bad.offset = history.volume(60).size;
  refuse("beyond the volume", "RECORD_INVALID", make_frame(stream, next, link, {bad}, random));
  bad.offset -= 512;
  bad.length = 1024;
  refuse("across the end of the volume", "RECORD_INVALID", make_frame(stream, next, link, {bad}, random));
  bad = write;
  bad.time_ns = last_ns;
  refuse("a time that was there before", "RECORD_INVALID", make_frame(stream, next, link, {bad}, random));
  refuse("an era without its clock record", "RECORD_INVALID",
         make_frame(stream, next, link, {write}, random, 2));
  refuse("an era that falls", "RECORD_INVALID", make_frame(stream, next, link, {write}, random, 0));
  const FrameBuilder::Record step{.kind = RecordKind::kClock, .time_ns = last_ns + 2};
  refuse("a clock record inside a frame", "FRAME_CORRUPT",
         make_frame(stream, next, link, {write, step}, random));
  const FrameBuilder::Record shrink{
      .kind = RecordKind::kResize, .volume = 60, .offset = 4096, .time_ns = last_ns + 1};
  FrameBuilder::Record beyond = write;
  beyond.volume = 60;
  beyond.offset = 4096;
  beyond.time_ns = last_ns + 2;
  refuse("beyond the volume since this frame", "RECORD_INVALID",
         make_frame(stream, next, link, {shrink, beyond}, random));

  Journal journal(history);
  REQUIRE(journal.begin(generation).ok());
  for (size_t i = 0; i < 3; ++i) REQUIRE(journal.append(frames[i]).ok());
  const auto before = journal.snapshot();
  const JournalWriter::Position position = journal->position();
  for (const Refusal& refusal : refusals) {
    INFO(refusal.what);
    auto refused = journal.append_later(refusal.frame.data(), refusal.frame.bytes());
    auto behind = journal.append_later(frames[3].data(), frames[3].bytes());
    CHECK(code_of(refused.get()) == refusal.code);
    CHECK(code_of(behind.get()) == "JOURNAL_STOPPED");
    CHECK(code_of(journal.append(frames[3])) == "JOURNAL_STOPPED");
    CHECK((journal.snapshot() == before));
    CHECK(journal->position().last_lsn == position.last_lsn);
    journal->resume(position.epoch);
  }
  for (size_t i = 3; i < frames.size(); ++i) REQUIRE(journal.append(frames[i]).ok());
  Bytes expected;
  for (const HistoryFrame& frame : frames) append_bytes(&expected, frame);
  CHECK(journal.stream() == expected);
}

TEST_CASE("a new session continues at the durable end, and its writer's older epoch is fenced") {
  const JournalHistory history = small_history();
  const HistoryGeneration& generation = history.generations.front();
  Random random(1);
  Journal journal(history);
  REQUIRE(journal.begin(generation).ok());
  REQUIRE(journal.append(generation.frames[0]).ok());
  journal->resume(generation.epoch + 5);
  CHECK(code_of(journal.append(generation.frames[1])) == "FRAME_FENCED");
  journal->resume(generation.epoch);  // an epoch of the past admits nobody
  CHECK(code_of(journal.append(generation.frames[1])) == "JOURNAL_STOPPED");
  journal->resume(generation.epoch + 5);
  const HistoryFrame frame = make_frame(
      {history.group, history.member, generation.epoch + 5, generation.generation},
      generation.frames[0].header.last_lsn + 1, generation.frames[0].header.header_crc32c,
      {{.kind = RecordKind::kVoid, .time_ns = generation.frames[0].header.last_time_ns + 1}}, random);
  REQUIRE(journal.append(frame).ok());
  CHECK(journal->position().epoch == generation.epoch + 5);
}

TEST_CASE("a generation begins above everything before it or not at all, and takes nothing away") {
  const JournalHistory history = small_history(2);
  Journal journal(history);
  const HistoryGeneration& first = history.generations[0];
  const HistoryGeneration& second = history.generations[1];
  Random random(1);
  CHECK(code_of(journal.append(make_frame({history.group, history.member, 0, 0}, 1, 0,
                                          {{.kind = RecordKind::kVoid, .time_ns = 1}}, random))) ==
        "RECORD_INVALID");
  journal->resume(0);
  REQUIRE(journal.begin(first).ok());
  for (const HistoryFrame& frame : first.frames) REQUIRE(journal.append(frame).ok());
  const auto before = journal.snapshot();
  const auto refused = [&](auto change) {
    HistoryGeneration generation{.epoch = second.epoch,
                                 .generation = second.generation,
                                 .first_lsn = second.first_lsn,
                                 .volumes = second.volumes,
                                 .frames = {}};
    change(generation);
    return code_of(journal.begin(generation));
  };
  CHECK(refused([](auto& g) { g.epoch = 1; }) == "FRAME_FENCED");
  CHECK(refused([](auto& g) { g.generation = 1; }) == "FRAME_GENERATION");
  CHECK(refused([&](auto& g) { g.first_lsn = first.frames.back().header.last_lsn; }) == "FRAME_REPEATED");
  CHECK(refused([](auto& g) { g.volumes.clear(); }) == "RECORD_INVALID");
  CHECK(refused([](auto& g) { g.volumes[1].number = g.volumes[0].number; }) == "RECORD_INVALID");
  CHECK(refused([](auto& g) { g.volumes[0].size = 513; }) == "RECORD_INVALID");
  CHECK((journal.snapshot() == before));

  const Answer begun = journal.begin(second);
  REQUIRE(begun.ok());
  REQUIRE(begun->changed.size() == 1);
  CHECK(begun->changed[0].sealed);
  for (const HistoryFrame& frame : second.frames) REQUIRE(journal.append(frame).ok());
  Bytes expected;
  for (const HistoryGeneration& generation : history.generations)
    for (const HistoryFrame& frame : generation.frames) append_bytes(&expected, frame);
  CHECK(journal.stream() == expected);  // R6: the first generation is all there
}

TEST_CASE("a journal opened anew goes on where it ended, with nothing of a torn tail behind it") {
  const JournalHistory history = small_history();
  const auto& generation = history.generations.front();
  const auto& frames = generation.frames;
  Journal journal(history);
  REQUIRE(journal.begin(generation).ok());
  Bytes expected;
  for (size_t i = 0; i < frames.size(); ++i) {
    REQUIRE(journal.append(frames[i]).ok());
    append_bytes(&expected, frames[i]);
    if (i % 2 == 1) continue;
    const JournalWriter::Position position = journal->position();
    journal.close();
    const std::string path = journal.written.segments.begin()->second.path;
    const auto clean = scan_segment(path, true);
    REQUIRE(clean.ok());
    CHECK(clean->info.last_lsn == position.last_lsn);
    CHECK_FALSE(clean->info.sealed);
    // A crash left half of the next frame, and older bytes far behind it.
    Bytes torn = read_file(path);
    if (i + 1 < frames.size())
      std::copy_n(frames[i + 1].data(), frames[i + 1].bytes() / 2,
                  torn.begin() + static_cast<int64_t>(clean->info.bytes));
    std::copy_n(frames[0].data(), frames[0].bytes(), torn.end() - 100000);
    write_file(path, torn);
    const auto tail = scan_segment(path, true);
    REQUIRE(tail.ok());
    CHECK(tail->info.bytes == clean->info.bytes);
    journal.open(position, &tail->info);
    const Bytes after = read_file(path);
    CHECK(after.size() == kSegmentBytesMin);
    CHECK(is_zero(after.data() + clean->info.bytes, after.size() - clean->info.bytes));
  }
  CHECK(journal.stream() == expected);
}

TEST_CASE("a journal whose last segment is sealed goes on in a new one with the same volumes") {
  const JournalHistory history = small_history();
  const auto& frames = history.generations.front().frames;
  Journal journal(history);
  REQUIRE(journal.begin(history.generations.front()).ok());
  for (size_t i = 0; i < 4; ++i) REQUIRE(journal.append(frames[i]).ok());
  const JournalWriter::Position position = journal->position();
  journal.close();
  const SegmentInfo info = journal.written.segments.begin()->second;
  std::filesystem::resize_file(info.path, info.bytes);
  REQUIRE(scan_segment(info.path, true)->info.sealed);
  // A crash while the next segment was made: its header is there, no frame is.
  write_file(segment_path(journal.directory(), position.last_lsn + 1), Bytes(1 << 20));
  journal.open(position, nullptr);
  for (size_t i = 4; i < frames.size(); ++i) REQUIRE(journal.append(frames[i]).ok());
  Bytes expected;
  for (const HistoryFrame& frame : frames) append_bytes(&expected, frame);
  CHECK(journal.stream() == expected);
  CHECK(journal.snapshot().size() == 2);
}

TEST_CASE("a segment that holds frames is never overwritten by one of the same name") {
  const JournalHistory history = small_history();
  const auto& generation = history.generations.front();
  Journal journal(history);
  REQUIRE(journal.begin(generation).ok());
  REQUIRE(journal.append(generation.frames[0]).ok());
  journal.close();
  const auto before = journal.snapshot();
  journal.open({}, nullptr);  // a position from before the segment was written
  REQUIRE(journal.begin(generation).ok());
  CHECK(code_of(journal.append(generation.frames[0])) == "JOURNAL_IO");
  CHECK((journal.snapshot() == before));
}

TEST_CASE("a tail that does not end at the position given is refused") {
  const JournalHistory history = small_history();
  const auto& generation = history.generations.front();
  Journal journal(history);
  REQUIRE(journal.begin(generation).ok());
  for (size_t i = 0; i < 3; ++i) REQUIRE(journal.append(generation.frames[i]).ok());
  const JournalWriter::Position position = journal->position();
  journal.close();
  const SegmentInfo tail = journal.written.segments.begin()->second;
  const auto before = journal.snapshot();
  const auto refused = [&](auto change) {
    JournalWriter::Position at = position;
    SegmentInfo info = tail;
    Uuid member = history.member;
    change(at, info, member);
    const auto opened = JournalWriter::open({.directory = journal.directory(),
                                             .group = history.group,
                                             .member = member,
                                             .segment_bytes = kSegmentBytesMin},
                                            at, &info);
    return opened.ok() ? std::string("opened") : std::string(opened.error().code);
  };
  CHECK(refused([](auto& at, auto&, auto&) { --at.last_lsn; }) == "JOURNAL_IO");
  CHECK(refused([](auto& at, auto&, auto&) { ++at.generation; }) == "JOURNAL_IO");
  CHECK(refused([](auto& at, auto&, auto&) { at.link ^= 1; }) == "JOURNAL_IO");
  CHECK(refused([](auto&, auto& info, auto&) { info.bytes -= 8; }) == "JOURNAL_IO");
  CHECK(refused([](auto&, auto& info, auto&) { info.bytes += 8; }) == "JOURNAL_IO");
  CHECK(refused([](auto&, auto& info, auto&) { info.path += "x"; }) == "JOURNAL_IO");
  CHECK(refused([](auto&, auto&, auto& member) { member[0] ^= 1; }) == "JOURNAL_IO");
  CHECK((journal.snapshot() == before));
}
