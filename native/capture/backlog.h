// Backlog: what was captured and is not confirmed, by its position in the ring's stream. Its newest part lies
// in the ring, and what the ring had no room for in spool files before it:
//
//   [first position, release position of the ring) in spool files, [release position, published) in the ring
//
// The files of a predecessor are awaited until the spooler has found them: their disk may not answer, and
// production does not wait for it. Until then all of them are kept, and nothing of them is read.
//
// Its mutex is that between those who read the ring and those who take records out of it. Whoever publishes
// into the ring never waits for it.
//
// Threads: has(), time_at(), loss(), pin() and unpin() by the pump; awaited(), found(), copy_oldest(),
// hand_over() and take_dropped() by the spooler; the others by any. Ownership: borrows the ring.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "capture/capture_ring.h"
#include "capture/spool_directory.h"

namespace afterimage {

class Backlog {
 public:
  /// Awaits what the ring says a predecessor has spooled of it.
  explicit Backlog(CaptureRing* ring);

  // --- the pump ---
  /// Whether the record at `position` is whole.
  bool has(uint64_t position) const;
  /// The time of a record that has() and that lies in the ring.
  std::optional<uint64_t> time_at(uint64_t position) const;
  /// Why the record at `position`, which has() is true of, cannot be had; nothing: it can.
  std::optional<Error> loss(uint64_t position) const;
  /// Where the record at `position` lies: in this file, or (nothing) in the ring, where it and what follows
  /// stay until unpin().
  std::optional<SpooledFile> pin(uint64_t position);
  /// The record at `position`, not before the one pinned; null: none that is whole.
  const RingRecord* pinned_at(uint64_t position) const { return ring_.at(position); }
  void unpin();

  // --- any thread ---
  /// The ring is more than half full.
  bool is_ring_crowded() const { return ring_.used() > ring_.capacity() / 2; }
  /// So far behind that what can wait should leave the rest to production.
  bool is_crowded() const { return ring_.spooled_position() != kNothingSpooled || is_ring_crowded(); }
  uint64_t first_position() const;
  uint64_t reserve_position() const { return ring_.reserve_position(); }
  /// Where to begin to read, to have all after `lsn`: records up to it may come first. Nothing: it lies in
  /// files that are awaited.
  std::optional<uint64_t> position_after(uint64_t lsn) const;
  /// Everything up to `lsn` is confirmed. Of spool files it lets go one by one, when it needs nothing of
  /// them. True when there are files to be removed.
  bool release(uint64_t lsn);
  /// Everything is given up, once no writer copies into it: nothing may be reserved meanwhile.
  void forget();
  struct Extent {
    uint64_t spooled_bytes = 0;
    // 0: nothing is whole. Of a spool file: not after its oldest record; while files are awaited: of the
    // ring.
    uint64_t oldest_time_ns = 0;
  };
  Extent extent() const;

  // --- the spooler ---
  /// Where what is awaited lies; `first` == kNothingSpooled: nothing is.
  struct Stretch {
    uint64_t first = kNothingSpooled;
    uint64_t end = 0;
  };
  Stretch awaited() const;
  /// What there is of it, or why it cannot be had: before anything else is spooled. Files that nobody awaits
  /// any more are dropped.
  void found(const Result<SpoolSurvey>& survey);
  /// What was awaited cannot be had. Nothing is spooled behind it, until it is confirmed or forgotten.
  bool is_lost() const;
  /// Copies whole records from the ring's oldest end behind `bytes`' room for a header, of one generation and
  /// at most kSpoolBatchBytesMax. Nothing: there are none.
  std::optional<SpoolBatch> copy_oldest(std::byte* bytes);
  /// `batch` is in the file at `path`, a new one or behind what it holds: the ring forgets it, once the pump
  /// does not read it there any more. False when it, or what the file held, was confirmed meanwhile.
  bool hand_over(const SpoolBatch& batch, const std::string& path, bool is_new);
  /// How many files there are, and whether the newest one is that at `path`.
  struct Files {
    size_t count = 0;
    bool ends_with_path = false;
  };
  Files files(const std::string& path) const;
  /// Files that nobody needs any more.
  std::vector<std::string> take_dropped();

 private:
  using Lock = std::unique_lock<std::mutex>;
  static constexpr uint64_t kNotPinned = UINT64_MAX;
  uint64_t ring_position_after(uint64_t lsn) const;
  bool is_spool_known() const { return !is_awaited_ && !loss_; }
  bool is_all_spooled_before(uint64_t lsn) const;
  void drop_front();
  void drop_confirmed();

  CaptureRing& ring_;
  mutable std::mutex mutex_;  // what follows, and the ring's release position
  std::condition_variable unpinned_;
  uint64_t pinned_ = kNotPinned;
  bool is_awaited_ = false;
  std::optional<Error> loss_;  // of what was awaited
  uint64_t confirmed_lsn_ = 0;
  std::deque<SpooledFile> files_;  // none while the spool is not known
  std::vector<std::string> dropped_;
};

}  // namespace afterimage
