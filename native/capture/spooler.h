// Spooler: the thread that moves the oldest records of a ring that is more than half full into spool files.
// Nobody waits for it: where it does not keep up, or has no room, the ring becomes full.
//
// What lies in the directory it looks at first, on its thread too: the disk may not answer.
//
// Threads: begin(), end() and remove_files() from one control thread; record_reserved() from I/O threads;
// files_dropped(), fault() and state() from any. Ownership: owns its thread and the file that it writes;
// borrows the backlog until end().
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "capture/backlog.h"
#include "capture/spool_directory.h"

namespace afterimage {

constexpr uint64_t kSpoolBytesMin = 16ull << 20;
constexpr uint64_t kSpoolHeadroomBytes = 64ull << 20;

class Spooler {
 public:
  struct Options {
    std::string directory;                          // of the member alone; made if it is not there
    uint64_t bytes_max = 0;                         // on disk
    uint64_t headroom_bytes = kSpoolHeadroomBytes;  // never taken of the file system's room
  };
  /// Why nothing can be spooled now, or (SPOOL_FOREIGN) what lies in the directory and is let lie there.
  struct State {
    const char* fault = nullptr;  // SPOOL_FULL, SPOOL_IO
    std::string message;
    std::string foreign;  // "": nothing
  };

  Spooler(Backlog* backlog, const SpoolOwner& owner, Options options);
  ~Spooler();
  /// `on_found`: the backlog awaits nothing any more; called once, from the spooler's thread.
  void begin(std::function<void()> on_found);

  uint64_t bytes_max() const { return options_.bytes_max; }
  /// `is_crowded`: of the ring, before the record was published.
  void record_reserved(bool is_crowded) {
    if (is_crowded && asleep_.load(std::memory_order_seq_cst)) wake();
  }
  void files_dropped() { wake(); }
  /// Null, or SPOOL_FULL or SPOOL_IO.
  const char* fault() const { return fault_.load(std::memory_order_relaxed); }
  State state() const;

  /// Returns when the thread has ended. Files stay.
  void end();
  /// After end(): removes those that were dropped.
  void remove_files();

 private:
  void look();
  enum class Step { kDone, kNothingWhole, kFailed };
  void run();
  Step spool_batch();
  Outcome write(const SpoolBatch& batch, bool is_new);
  void failed(const Error& error);
  void succeeded();
  void sleep(std::optional<std::chrono::milliseconds> most);
  void wake();

  Backlog& backlog_;
  const SpoolOwner owner_;
  const Options options_;
  const uint64_t file_bytes_;

  // The thread's own.
  bool is_lost_ = false;  // what a predecessor has spooled, when it was last looked for
  std::optional<SpoolFileWriter> writer_;
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  const std::unique_ptr<std::byte, Free> batch_;

  std::atomic<bool> asleep_{false};
  std::atomic<const char*> fault_{nullptr};
  mutable std::mutex mutex_;  // what follows
  std::condition_variable changed_;
  bool stopping_ = false;
  bool woken_ = false;
  bool has_looked_ = false;
  std::chrono::steady_clock::time_point begun_;
  std::string message_;
  std::string foreign_;
  std::vector<std::string> leftovers_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace afterimage
