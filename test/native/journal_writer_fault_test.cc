// JournalWriter over a disk that is slow, writes short, is full or fails.
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "journal/journal_writer.h"
#include "journal_history.h"
#include "writer_fixture.h"

using namespace afterimage;

TEST_CASE("nothing is acknowledged before it was written and synced") {
  const JournalHistory history = small_history();
  FaultyFile file;
  file.write_bytes_max = 700;  // and every write is short
  Journal journal(history, &file);
  REQUIRE(journal.begin(history.generations.front()).ok());
  uint64_t bytes = kSegmentHeaderBytes;
  Bytes expected;
  for (const HistoryFrame& frame : history.generations.front().frames) {
    bytes += frame.bytes();
    append_bytes(&expected, frame);
    std::promise<uint64_t> synced;
    journal->append(frame.data(), frame.bytes(), [&](const Answer& answer) {
      synced.set_value(answer.ok() ? file.synced_bytes.load() : 0);
    });
    CHECK(synced.get_future().get() == bytes);
  }
  CHECK(journal.stream() == expected);
}

TEST_CASE("frames that queue up during a sync share the next one") {
  const JournalHistory history = small_history();
  const auto& frames = history.generations.front().frames;
  REQUIRE(frames.size() >= 8);
  FaultyFile file;
  Journal journal(history, &file);
  REQUIRE(journal.begin(history.generations.front()).ok());
  REQUIRE(journal.append(frames[0]).ok());
  std::promise<void> gate;
  file.gate = gate.get_future().share();
  std::vector<std::future<Answer>> answers;
  answers.push_back(journal.append_later(frames[1].data(), frames[1].bytes()));
  const uint64_t expected_bytes = kSegmentHeaderBytes + frames[0].bytes() + frames[1].bytes();
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (file.written_bytes < expected_bytes && std::chrono::steady_clock::now() < patience)
    std::this_thread::yield();
  REQUIRE(file.written_bytes >= expected_bytes);  // in whole blocks
  const int before = file.syncs;                  // frame 1 is written and waits for its sync
  for (size_t i = 2; i < 8; ++i) answers.push_back(journal.append_later(frames[i].data(), frames[i].bytes()));
  CHECK(answers[0].wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  gate.set_value();
  for (size_t i = 1; i < 8; ++i) {
    const Answer answer = answers[i - 1].get();
    REQUIRE(answer.ok());
    CHECK(answer->durable_lsn == frames[i == 1 ? 1 : 7].header.last_lsn);
    CHECK(answer->changed.size() == (i <= 2 ? 1 : 0));  // once per group commit, with its first frame
  }
  CHECK(file.syncs == before + 2);
}

TEST_CASE("a sender that ignores its window is told so and nothing is lost") {
  const JournalHistory history({.seed = 8,
                                .generations = 1,
                                .generation_bytes = 200u << 10,
                                .record_bytes_max = 1024,
                                .frame_raw_bytes = 1u << 10});
  const auto& frames = history.generations.front().frames;
  REQUIRE(frames.size() > kQueuedFramesMax + 2);
  FaultyFile file;
  Journal journal(history, &file);
  REQUIRE(journal.begin(history.generations.front()).ok());
  REQUIRE(journal.append(frames[0]).ok());
  std::promise<void> gate;
  file.gate = gate.get_future().share();
  std::vector<std::future<Answer>> answers;
  for (size_t i = 1; i <= kQueuedFramesMax; ++i)
    answers.push_back(journal.append_later(frames[i].data(), frames[i].bytes()));
  auto excess =
      journal.append_later(frames[kQueuedFramesMax + 1].data(), frames[kQueuedFramesMax + 1].bytes());
  REQUIRE(excess.wait_for(std::chrono::seconds(0)) == std::future_status::ready);
  CHECK(code_of(excess.get()) == "JOURNAL_OVERLOAD");
  gate.set_value();
  for (auto& answer : answers) CHECK(answer.get().ok());
  CHECK(journal.append(frames[kQueuedFramesMax + 1]).ok());
}

TEST_CASE(
    "a full disk, wherever it is met, cuts back to the durable end and the journal goes on when there is "
    "room") {
  const JournalHistory history = large_history();
  for (const char* call : {"pwritev", "fallocate"}) {
    for (const int at : {1, 2, 3, 9, 10}) {
      if (kIsSampled && at != 2) continue;
      INFO(call << " " << at);
      FaultyFile file;
      file.fail_call = call;
      file.fail_at = at;
      file.fail_with = at % 2 == 0 ? EDQUOT : ENOSPC;
      Journal journal(history, &file);
      int failures = 0;
      Bytes expected;
      for (const HistoryGeneration& generation : history.generations) {
        REQUIRE(journal.begin(generation).ok());
        for (const HistoryFrame& frame : generation.frames) {
          Answer answer = journal.append(frame);
          if (!answer.ok()) {
            ++failures;
            CHECK(code_of(answer) == "JOURNAL_FULL");
            CHECK(journal->position().last_lsn == frame.header.first_lsn - 1);
            CHECK(journal.stream() == expected);
            for (const auto& [name, bytes] : journal.snapshot())  // nothing of the frame is left behind
              CHECK(bytes.size() == scan_segment(journal.directory() + "/" + name, true)->info.bytes);
            CHECK(code_of(journal.append(frame)) == "JOURNAL_STOPPED");
            journal->resume(generation.epoch);
            answer = journal.append(frame);
          }
          REQUIRE(answer.ok());
          append_bytes(&expected, frame);
        }
      }
      CHECK(failures == (std::string(call) == "pwritev" || at <= 3 ? 1 : 0));
      CHECK(journal.stream() == expected);
      for (const auto& [first_lsn, info] : journal.written.segments)
        CHECK(scan_segment(info.path, false)->info.last_lsn == info.last_lsn);
    }
  }
}

// Symptom: the journal opened all the same, without knowing its volumes, and refused every frame of the
// generation as RECORD_INVALID: the agent was blamed for what the disk did.
TEST_CASE("a journal whose directory or last segment cannot be read does not open") {
  const JournalHistory history = small_history();
  const ScratchDirectory scratch;
  const auto code_at = [&](const std::string& directory) {
    const auto opened =
        JournalWriter::open({.directory = directory, .group = history.group, .member = history.member},
                            {.epoch = 1, .generation = 1, .last_lsn = 7, .link = 1}, nullptr);
    return opened.ok() ? std::string("opened") : std::string(opened.error().code);
  };
  CHECK(code_at(scratch.path("none")) == "JOURNAL_IO");
  const std::string directory = scratch.path("journal");
  std::filesystem::create_directory(directory);
  CHECK(code_at(directory) == "opened");
  std::filesystem::create_directory(segment_path(directory, 3));  // opens, and fails to be read
  CHECK(code_at(directory) == "JOURNAL_IO");
}

TEST_CASE("a journal opened anew on a full disk seals its tail and leaves the disk what little it has") {
  const JournalHistory history = small_history();
  const auto& frames = history.generations.front().frames;
  FaultyFile file;
  Journal journal(history, &file);
  REQUIRE(journal.begin(history.generations.front()).ok());
  for (size_t i = 0; i < 3; ++i) REQUIRE(journal.append(frames[i]).ok());
  const JournalWriter::Position position = journal->position();
  const SegmentInfo tail = journal.written.segments.begin()->second;
  journal.close();

  file.fail_call = "fallocate";
  file.fail_at = 1;
  file.fail_on = true;
  file.fail_with = ENOSPC;
  journal.open(position, &tail);
  CHECK(read_file(tail.path).size() == tail.bytes);
  CHECK(scan_segment(tail.path, true)->info.sealed);
  CHECK(code_of(journal.append(frames[3])) == "JOURNAL_FULL");

  file.fail_at = 0;
  journal->resume(position.epoch);
  const Answer answer = journal.append(frames[3]);
  REQUIRE(answer.ok());
  REQUIRE(answer->changed.size() == 2);
  CHECK(answer->changed[0].sealed);
  CHECK(answer->changed[0].path == tail.path);
}

TEST_CASE(
    "a disk error ends the writer, wherever it is met, and what was acknowledged is found by the next") {
  const JournalHistory history({.seed = 6, .generations = 1, .generation_bytes = 3u << 20});
  const HistoryGeneration& generation = history.generations.front();
  for (const char* call : {"pwritev", "fdatasync", "fsync", "fallocate", "ftruncate"}) {
    for (const int at : {1, 2, 4}) {
      if (kIsSampled && at != 2) continue;
      INFO(call << " " << at);
      FaultyFile file;
      file.fail_call = call;
      file.fail_at = at;
      // A failed sync that says "full" is no less final: what it should have written may be gone.
      file.fail_with = std::string(call) == "fdatasync" && at == 2 ? ENOSPC : EIO;
      file.fail_on = at == 4;
      Journal journal(history, &file);
      REQUIRE(journal.begin(generation).ok());
      Bytes acknowledged;
      bool failed = false;
      for (const HistoryFrame& frame : generation.frames) {
        const Answer answer = journal.append(frame);
        if (answer.ok()) {
          REQUIRE_FALSE(failed);
          append_bytes(&acknowledged, frame);
          continue;
        }
        CHECK(code_of(answer) == "JOURNAL_IO");
        if (!failed) CHECK(journal->position().last_lsn == frame.header.first_lsn - 1);
        failed = true;
        journal->resume(generation.epoch);  // does not mend a disk
      }
      const JournalWriter::Position position = journal->position();
      if (failed)
        CHECK(code_of(journal.begin(JournalHistory({.seed = 1, .generations = 2}).generations[1])) ==
              "JOURNAL_IO");
      journal.close();
      CHECK(journal.stream() == acknowledged);

      file.fail_at = 0;
      const auto segments = journal.snapshot();
      const bool has_tail = !segments.empty();
      SegmentScan tail;
      if (has_tail) tail = *scan_segment(journal.directory() + "/" + segments.rbegin()->first, true);
      const bool is_open = has_tail && !tail.info.sealed;
      if (!has_tail) continue;  // the generation is not on disk yet: a session begins it anew
      journal.open(position, is_open ? &tail.info : nullptr);
      for (const HistoryFrame& frame : generation.frames) {
        if (frame.header.first_lsn <= position.last_lsn) continue;
        REQUIRE(journal.append(frame).ok());
        append_bytes(&acknowledged, frame);
      }
      CHECK(journal.stream() == acknowledged);
    }
  }
}
