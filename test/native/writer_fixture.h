// What the tests of JournalWriter share: a writer over a directory of its own, and a disk that fails on
// demand.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <string>

#include "journal/journal_writer.h"
#include "journal_history.h"
#include "scratch_files.h"

namespace afterimage {

using Answer = Result<JournalWriter::Appended>;

inline std::string code_of(const Answer& answer) { return answer.ok() ? "" : answer.error().code; }

/// A disk that fails at the n-th call of a kind, writes short, or waits to be let go; and what was done to
/// it, in order.
class FaultyFile final : public JournalFile {
 public:
  std::string fail_call;  // "pwritev", "fdatasync", "fsync", "fallocate", "ftruncate"
  int fail_at = 0;        // the n-th call of it from now, 1…; 0: none
  Errno fail_with = 0;
  bool fail_on = false;  // every later one too
  uint64_t write_bytes_max = UINT64_MAX;
  std::shared_future<void> gate;  // fdatasync waits for it
  std::atomic<int> syncs{0};
  std::atomic<uint64_t> written_bytes{0};  // up to where the file has been written
  std::atomic<uint64_t> synced_bytes{0};

  Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) override {
    if (const Errno error = fault("pwritev")) {
      // A disk that fills up has often taken a part.
      iovec part{pieces[0].iov_base, std::min<size_t>(pieces[0].iov_len, 100)};
      JournalFile::pwritev(fd, &part, 1, offset, written);
      return error;
    }
    iovec first{pieces[0].iov_base, std::min<size_t>(pieces[0].iov_len, write_bytes_max)};
    const Errno error = write_bytes_max == UINT64_MAX
                            ? JournalFile::pwritev(fd, pieces, count, offset, written)
                            : JournalFile::pwritev(fd, &first, 1, offset, written);
    if (error == 0) written_bytes = std::max(written_bytes.load(), offset + *written);
    return error;
  }
  Errno fdatasync(int) override {
    if (gate.valid()) gate.wait();
    ++syncs;
    if (const Errno error = fault("fdatasync")) return error;
    synced_bytes = written_bytes.load();
    return 0;  // what the real one does is not seen without a power cut, and takes long
  }
  Errno fsync(int) override { return fault("fsync"); }
  Errno fallocate(int fd, uint64_t offset, uint64_t length) override {
    const Errno error = fault("fallocate");
    // As ext4 does: what was there to be had stays with the file, also when it was too little.
    const Errno real = JournalFile::fallocate(fd, offset, error != 0 ? length / 2 : length);
    return error != 0 ? error : real;
  }
  Errno ftruncate(int fd, uint64_t bytes) override {
    const Errno error = fault("ftruncate");
    return error != 0 ? error : JournalFile::ftruncate(fd, bytes);
  }

 private:
  Errno fault(const char* call) {
    if (fail_call != call || fail_at == 0) return 0;
    if (--fail_at > 0) return 0;
    if (fail_on) fail_at = 1;
    return fail_with;
  }
};

/// A writer over a directory, and what it answered.
class Journal {
 public:
  explicit Journal(const JournalHistory& history, JournalFile* file = nullptr)
      : history_(history), directory_(scratch_.path(".")), file_(file) {
    open({}, nullptr);
  }
  void open(const JournalWriter::Position& position, const SegmentInfo* tail) {
    auto opened = JournalWriter::open({.directory = directory_,
                                       .group = history_.group,
                                       .member = history_.member,
                                       .segment_bytes = kSegmentBytesMin,
                                       .file = file_},
                                      position, tail);
    REQUIRE(opened.ok());
    writer_ = std::move(*opened);
  }
  void close() { writer_.reset(); }
  JournalWriter& operator*() { return *writer_; }
  JournalWriter* operator->() { return writer_.get(); }

  std::future<Answer> append_later(const std::byte* bytes, uint64_t length) {
    auto promise = std::make_shared<std::promise<Answer>>();
    writer_->append(bytes, length, [promise](Answer answer) { promise->set_value(std::move(answer)); });
    return promise->get_future();
  }
  Answer append(const HistoryFrame& frame) { return noted(append_later(frame.data(), frame.bytes()).get()); }
  Answer begin(const HistoryGeneration& generation) {
    std::promise<Answer> promise;
    writer_->begin_generation(generation.epoch, generation.generation, generation.first_lsn,
                              generation.volumes,
                              [&](Answer answer) { promise.set_value(std::move(answer)); });
    return noted(promise.get_future().get());
  }
  Answer noted(Answer answer) {
    if (answer.ok()) written.note(answer->changed);
    return answer;
  }
  const std::string& directory() const { return directory_; }
  /// Every file and its bytes.
  std::map<std::string, Bytes> snapshot() const {
    std::map<std::string, Bytes> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      files[entry.path().filename()] = read_file(entry.path());
    return files;
  }
  /// All that the files hold up to where each ends, as one stream of frames; nothing invalid may lie behind.
  Bytes stream() const {
    Bytes all;
    for (const auto& [name, bytes] : snapshot()) {
      const auto scan = scan_segment(directory_ + "/" + name, true);
      REQUIRE(scan.ok());
      CHECK(scan->stop_reason == "");
      all.insert(all.end(), bytes.begin() + kSegmentHeaderBytes,
                 bytes.begin() + static_cast<int64_t>(scan->info.bytes));
    }
    return all;
  }

  WrittenJournal written;

 private:
  const JournalHistory& history_;
  ScratchDirectory scratch_;
  std::string directory_;
  JournalFile* file_;
  std::unique_ptr<JournalWriter> writer_;
};

inline void append_bytes(Bytes* stream, const HistoryFrame& frame) {
  stream->insert(stream->end(), frame.data(), frame.data() + frame.bytes());
}

inline JournalHistory small_history(uint32_t generations = 1) {
  return JournalHistory({.seed = 21,
                         .generations = generations,
                         .generation_bytes = 60u << 10,
                         .record_bytes_max = 4096,
                         .frame_raw_bytes = 8u << 10});
}

inline JournalHistory large_history() {
  return JournalHistory({.seed = 4, .generations = 2, .generation_bytes = 4u << 20});
}

}  // namespace afterimage
