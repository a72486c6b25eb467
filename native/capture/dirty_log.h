// DirtyLog: which extents (4 MiB) of a volume are in doubt, in memory and on stable storage (R8).
//
// An extent is marked on stable storage before its first write reaches the backing. It is unmarked only when
//   - the receiver is durable past the last write to it,
//   - a flush of the backing that began after that write has succeeded, and
//   - no writer is inside it,
// so that after any crash every extent where backing and receiver may differ is marked. Which of the first
// two holds is the cleaner's to know (dirty_log_cleaner.h); the third is decided here, at one atomic word per
// extent: `marked`, `touched` and an idle count in its top bits, the writers inside below. A writer that
// finds its extent marked does nothing but count itself in and out; the first of a cold extent waits until
// the mark is durable, together with whoever else waits (one fdatasync for all).
//
// What a file cannot prove is in doubt: a log that is missing, damaged or another volume's is begun anew with
// every extent marked. One that could not be written once, or not in time, is void for good: marks are then
// kept in memory only, production goes on, and is_void() tells whoever has to see to it that the next start
// compares everything. Its file, which lacks those marks, is made unreadable as such; while the disk does not
// let that be done either the log is stale, and it is tried again and again.
//
// It can grow with its volume, and then has all that was added in doubt.
//
// Threads: Writer, flush_began(), flush_ended(), counts and refute() from any thread; cut(), unmark(),
// mark_all() and begin_anew() from any thread, one at a time between them; keep_doubts_in() before all of
// these; grow() from one thread; end() after all that change anything; no call waits for the network or
// JavaScript. It has a thread of its own that opens its file and writes for all who wait: open() waits for
// that thread, and for no longer than `opening_patience`, a first mark and end() for no longer than
// `patience`, mark_all() and begin_anew(), behind which production may be waiting as it does for open(), for
// no longer than either, and unmark() and refute() for two seconds, since a disk may hang for hours that
// production does not need. Of one path in a process that thread waits for those before it, and what the last
// of them left stale is begun anew. grow() waits for the disk itself. What marks or unmarks does not throw: a
// process that has no memory for half of such a change ends, and its successor goes by what the disk holds.
// Ownership: owns its file, shares the table. Writers must have gone before it does. Its thread owns it too,
// and outlives who uses it for as long as the disk hangs.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "capture/dirty_log_file.h"
#include "capture/in_flight_table.h"
#include "os/pinned_memory.h"

namespace afterimage {

class PathTurn;

class DirtyLog {
 public:
  struct Options {
    std::string path;
    Uuid volume{};
    uint64_t volume_bytes = 0;
    JournalFile* file = &JournalFile::system();
    /// Below the 30 s after which Linux and its guests lose patience with a disk themselves.
    std::chrono::milliseconds patience{20'000};
    std::chrono::milliseconds opening_patience{600'000};
  };
  /// Whatever the disk says, or does not say in time, there is a log, perhaps a void one. Makes the directory
  /// of its file where that is all that is missing. Errors: MEMORY_UNAVAILABLE.
  static Result<std::shared_ptr<DirtyLog>> open(const Options& options);
  /// Ends its thread, or lets it end when its disk answers: from now on it can only be looked at. The last
  /// owner's letting go does the same.
  void end();
  ~DirtyLog();
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;

  /// Held by whoever changes [begin, end) of the backing, from before the change until its record is
  /// published.
  class Writer {
   public:
    /// Waits for the disk if an extent is cold. `log` may be null: nothing is counted.
    Writer(DirtyLog* log, uint64_t begin, uint64_t end);
    ~Writer();
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

   private:
    DirtyLog* const log_;
    uint64_t first_ = 0;
    uint64_t last_ = 0;
  };

  /// Around each flush of the backing: what flush_began() returned, and whether it succeeded. Once one has
  /// failed nothing is unmarked any more: what was lost since the last good one will not be known.
  uint64_t flush_began();
  /// What the next flush_began() will return.
  uint64_t next_flush() const { return flushes_begun_ + 1; }
  void flush_ended(uint64_t ticket, bool has_succeeded);
  /// A flush that began at or after `ticket` has succeeded, and none has failed.
  bool has_flushed(uint64_t ticket) const;
  bool has_flush_failed() const { return flush_failed_; }

  /// Chooses what a later unmark() may unmark: marked extents that no writer is inside of, and that this cut
  /// and `idle_cuts` before it found untouched. What is written to them from now on takes them out again.
  /// Every write to the others returned, and was published, before. Returns how many.
  static constexpr uint32_t kIdleCutsMax = 63;
  uint64_t cut(uint32_t idle_cuts = 0);
  /// Unmarks what the last cut() chose, with the same `idle_cuts`, and nobody has written to since. What that
  /// rests on goes with it. Returns how many.
  uint64_t unmark(uint64_t basis_generation, uint64_t basis_lsn, uint32_t idle_cuts = 0) noexcept;
  /// The whole volume is in doubt.
  void mark_all() noexcept;
  /// What its file says is not to be believed: another one takes its place, of another id and with every
  /// extent marked. Where that cannot be made the log is void.
  void begin_anew() noexcept;
  /// Of a stale log: tries again to make its file void, and waits for that no longer than two seconds.
  void refute() noexcept;
  /// Where a successor is told that a flush of the backing failed, and that the log is stale. Null: nowhere.
  void keep_doubts_in(std::shared_ptr<InFlightTable> table);
  /// The volume has `volume_bytes` from now on, no fewer than before: what was added is marked, durably so
  /// unless the log is void, before anybody may write there. Until set_synced() nothing is unmarked. First
  /// marks wait meanwhile. Errors: MEMORY_UNAVAILABLE, and nothing has changed.
  Outcome grow(uint64_t volume_bytes) noexcept;

  /// The generation in which the receiver has said that it holds the volume; what was published since it
  /// began counts. 0: none.
  void set_synced(uint64_t generation) { synced_generation_ = generation; }
  uint64_t synced_generation() const { return synced_generation_; }

  struct State {
    uint64_t id = 0;        // of the log, random; 0: it is void, or there is none
    uint64_t sequence = 0;  // rises with what is durable of it
    uint64_t basis_generation = 0;
    uint64_t basis_lsn = 0;  // what is unmarked is right if the receiver holds everything up to it
    uint64_t extents = 0;
    uint64_t marked = 0;
    bool flush_failed = false;
    /// Why nothing of what the file held was believed, and why the log is void; empty: no such thing.
    std::string distrust;
    std::string fault;
    /// It is void, and who finds its file would believe it.
    bool is_stale = false;
  };
  State state() const;
  bool is_void() const { return void_; }
  uint64_t marked() const { return marked_; }
  bool is_marked(uint64_t offset) const;
  /// Bit e of byte e/8 stands for extent e. A write that has reached the backing is in it.
  std::vector<std::byte> bitmap() const;

 private:
  using Lock = std::unique_lock<std::mutex>;
  DirtyLog(PinnedMemory words, const Options& options);
  void adopt(std::vector<DirtyPage> pages);
  void make_room();
  void fill_marked();
  void become_void(std::string_view what, std::string_view why, bool is_stale);

  void enter(uint64_t first, uint64_t last);
  void leave(uint64_t first, uint64_t last);
  void mark(uint64_t first, uint64_t last) noexcept;
  void set_pending(uint32_t page);
  bool commit(Lock& lock, std::chrono::milliseconds patience);
  template <typename Is>
  bool wait(Lock& lock, std::chrono::milliseconds patience, const Is& is_over);
  void be_impatient();
  bool take_file(Lock& lock);
  void give_back_file();
  void run(PathTurn& turn) noexcept;
  void open_file(Lock& lock, bool is_refuted);
  void make_anew(Lock& lock);
  void refute_now(Lock& lock);
  void write_pending(Lock& lock);
  Errno write_pages(Lock& lock);
  void give_up(Lock& lock, std::string_view what, std::string_view why);
  std::atomic<uint32_t>& word(uint64_t extent) const { return words_[extent]; }

  const std::string path_;
  const Uuid volume_;
  JournalFile& disk_;
  PinnedMemory words_memory_;           // has the addresses of the largest log, and memory for this one
  std::atomic<uint32_t>* const words_;  // one per extent
  std::atomic<uint64_t> extents_;

  std::atomic<uint64_t> marked_{0};
  std::atomic<uint64_t> synced_generation_{0};
  std::atomic<uint64_t> flushes_begun_{0};
  std::atomic<uint64_t> flushed_{0};  // the highest ticket of those that succeeded
  std::atomic<bool> flush_failed_{false};
  std::atomic<bool> void_{false};
  std::atomic<bool> stale_{false};
  std::shared_ptr<InFlightTable> doubts_;

  const std::chrono::milliseconds patience_;
  const std::chrono::milliseconds patience_for_all_;  // to mark them all

  mutable std::mutex mutex_;  // what follows
  std::condition_variable changed_;
  std::unique_ptr<DirtyLogFile> file_;  // replaced by whoever has taken it
  uint64_t volume_bytes_;
  std::vector<DirtyPage> pages_;   // as they are to be on the disk; their sequence as it was last written
  std::vector<bool> is_pending_;   // by page
  std::vector<uint32_t> pending_;  // pages that differ from the disk
  uint64_t requested_ = 0;         // commits asked for, and done
  uint64_t committed_ = 0;
  bool is_file_taken_ = false;
  int file_waiters_ = 0;
  bool is_opened_ = false;  // or it is known that it cannot be
  bool is_anew_wanted_ = false;
  bool is_refute_wanted_ = false;
  bool is_closing_ = false;
  bool has_ended_ = false;  // its thread
  uint64_t sequence_ = 0;   // sum of those of the pages, as far as they are durable
  uint64_t basis_generation_ = 0;
  uint64_t basis_lsn_ = 0;
  std::string distrust_;
  std::string fault_;

  std::vector<uint32_t> writing_;  // the file's taker's: what it writes, with room for all pages
  DirtyPage written_;
  std::thread thread_;  // last: it uses the above
};

}  // namespace afterimage
