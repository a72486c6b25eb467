#include "capture/dirty_log.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "capture/path_turn.h"
#include "os/assert.h"
#include "os/io_thread.h"

namespace afterimage {
namespace {

constexpr uint32_t kMarked = 1u << 31;
constexpr uint32_t kTouched = 1u << 30;
constexpr uint32_t kIdleCut = 1u << 24;  // cuts that found the extent untouched, up to kIdleCutsMax
constexpr uint32_t kIdle = kIdleCut * DirtyLog::kIdleCutsMax;
constexpr uint32_t kWriters = kIdleCut - 1;
/// Extents that are looked at with the mutex held: a first mark does not wait long for it.
constexpr uint64_t kStretch = 4096;

constexpr std::string_view kCannotWrite = "the dirty log cannot be written: ";
constexpr std::string_view kLacksMarks = ": a predecessor could not write what it marked";
constexpr int kPatienceParts = 20;
/// For what is being withdrawn.
constexpr std::chrono::milliseconds kFarewell{2000};
constexpr size_t kFaultBytes = 256;  // of a fault that must not need memory

static_assert(std::atomic<uint32_t>::is_always_lock_free);
static_assert((kMarked ^ kTouched ^ kIdle ^ kWriters) == UINT32_MAX, "the parts of an extent's word");

/// Nobody is inside, and nobody was at that many cuts.
bool is_idle(uint32_t word, uint32_t idle_cuts) {
  return (word & kMarked) != 0 && (word & (kTouched | kWriters)) == 0 &&
         (word & kIdle) / kIdleCut >= idle_cuts;
}

size_t byte_of(uint64_t extent) { return extent % kDirtyPageExtents / 8; }
std::byte bit_of(uint64_t extent) { return static_cast<std::byte>(1u << (extent % 8)); }
uint32_t page_of(uint64_t extent) { return static_cast<uint32_t>(extent / kDirtyPageExtents); }

constexpr size_t word_bytes(uint64_t volume_bytes) {
  return dirty_extents(volume_bytes) * sizeof(std::atomic<uint32_t>);
}

}  // namespace

// --- open ---

Result<std::shared_ptr<DirtyLog>> DirtyLog::open(const Options& options) {
  AFTERIMAGE_ASSERT(options.volume_bytes > 0 && options.volume_bytes <= kDirtyVolumeBytesMax,
                    "the bounds of the log");
  auto memory = PinnedMemory::allocate(word_bytes(options.volume_bytes), word_bytes(kDirtyVolumeBytesMax));
  if (!memory.ok()) return memory.error();
  const std::shared_ptr<DirtyLog> log(new DirtyLog(std::move(*memory), options));
  try {
    log->thread_ = std::thread([log, turn = std::make_unique<PathTurn>(options.path)] { log->run(*turn); });
  } catch (const std::exception& error) {
    return Error{"MEMORY_UNAVAILABLE", std::string("no thread for a dirty log: ") + error.what()};
  }
  Lock lock(log->mutex_);
  if (!log->wait(lock, options.opening_patience, [&] { return log->is_opened_; })) log->be_impatient();
  if (log->void_) log->fill_marked();
  lock.unlock();
  return std::shared_ptr<DirtyLog>(log.get(), [log](DirtyLog*) { log->end(); });
}

DirtyLog::DirtyLog(PinnedMemory words, const Options& options)
    : path_(options.path),
      volume_(options.volume),
      disk_(*options.file),
      words_memory_(std::move(words)),
      words_(reinterpret_cast<std::atomic<uint32_t>*>(words_memory_.bytes().data())),
      extents_(dirty_extents(options.volume_bytes)),
      patience_(options.patience),
      patience_for_all_(std::min(options.patience, options.opening_patience)),
      volume_bytes_(options.volume_bytes) {
  for (uint64_t extent = 0; extent < extents_; ++extent) new (words_ + extent) std::atomic<uint32_t>(0);
  fault_.reserve(kFaultBytes);
}

void DirtyLog::end() {
  if (!thread_.joinable()) return;
  Lock lock(mutex_);
  is_closing_ = true;
  changed_.notify_all();
  const auto patience = void_ ? std::min(kFarewell, patience_) : patience_;
  const bool has_ended = wait(lock, patience, [this] { return has_ended_; });
  // What it is still at is not to be believed by whoever opens the file next.
  if (!has_ended && !void_) be_impatient();
  lock.unlock();
  if (has_ended)
    thread_.join();
  else
    thread_.detach();
}

DirtyLog::~DirtyLog() {
  for (uint64_t extent = 0; extent < extents_; ++extent)
    AFTERIMAGE_ASSERT((word(extent).load() & kWriters) == 0, "the extents of writers that are still inside");
}

void DirtyLog::adopt(std::vector<DirtyPage> pages) {
  pages_ = std::move(pages);
  make_room();
  for (uint64_t extent = 0; extent < extents_; ++extent) {
    if ((pages_[page_of(extent)].bits[byte_of(extent)] & bit_of(extent)) == std::byte{0}) continue;
    if ((word(extent).fetch_or(kMarked | kTouched) & kMarked) == 0) ++marked_;
  }
  sequence_ = 0;
  for (const DirtyPage& page : pages_) {
    sequence_ += page.sequence;
    if (page.basis_lsn < basis_lsn_) continue;
    basis_lsn_ = page.basis_lsn;
    basis_generation_ = page.basis_generation;
  }
}

/// Who waits for it may have lost patience before the disk answers: then what it has is withdrawn.
void DirtyLog::open_file(Lock& lock, bool is_refuted) {
  is_file_taken_ = true;
  const DirtyLogFile::Identity identity{volume_, volume_bytes_};
  try {
    lock.unlock();
    Result<std::unique_ptr<DirtyLogFile>> file = Error{"STATE_INVALID", path_ + std::string(kLacksMarks)};
    if (!is_refuted) file = DirtyLogFile::open(path_, identity, disk_);
    std::string distrust;
    if (!file.ok()) {
      distrust = file.error().message;
      file = DirtyLogFile::create(path_, identity, disk_);
    }
    lock.lock();
    if (file.ok()) file_ = std::move(*file);
    if (file.ok() && !void_) {
      distrust_ = std::move(distrust);
      adopt(file_->take_pages());
    } else {
      // What could not be read now may be readable later, and would lack the marks of this run.
      give_up(lock, "", file.ok() ? "" : file.error().message);
    }
  } catch (const std::bad_alloc&) {
    if (!lock.owns_lock()) lock.lock();
    give_up(lock, kCannotWrite, "there is no memory for it");
  }
  is_opened_ = true;
  give_back_file();
}

/// The file is taken.
void DirtyLog::make_anew(Lock& lock) {
  const DirtyLogFile::Identity identity{volume_, volume_bytes_};
  lock.unlock();
  auto file = DirtyLogFile::create(path_, identity, disk_);
  lock.lock();
  std::unique_ptr<DirtyLogFile> replaced;
  if (file.ok()) replaced = std::exchange(file_, std::move(*file));
  if (file.ok() && !void_) {
    distrust_ = path_ + std::string(kLacksMarks);
    basis_generation_ = basis_lsn_ = 0;
    adopt(file_->take_pages());
    if (doubts_ != nullptr) doubts_->forget(InFlightTable::kLogStale);
  } else {
    give_up(lock, "the dirty log cannot be begun anew: ", file.ok() ? "" : file.error().message);
  }
  is_anew_wanted_ = false;
  changed_.notify_all();
  lock.unlock();
  replaced.reset();  // which may wait for the disk
  lock.lock();
}

/// The file is taken.
void DirtyLog::refute_now(Lock& lock) {
  if (stale_) give_up(lock, "", "");
  is_refute_wanted_ = false;
}

/// So that no commit needs memory.
void DirtyLog::make_room() {
  is_pending_.resize(pages_.size());
  pending_.reserve(pages_.size());
  writing_.reserve(pages_.size());
}

void DirtyLog::fill_marked() {
  for (uint64_t extent = 0; extent < extents_; ++extent)
    if ((word(extent).fetch_or(kMarked | kTouched) & kMarked) == 0) ++marked_;
}

/// The mutex is held, or nobody else has the log yet.
void DirtyLog::become_void(std::string_view what, std::string_view why, bool is_stale) {
  fault_.assign(what).append(why);
  stale_ = is_stale;
  if (is_stale && doubts_ != nullptr) doubts_->note(InFlightTable::kLogStale);
  void_ = true;
  changed_.notify_all();
}

void DirtyLog::keep_doubts_in(std::shared_ptr<InFlightTable> table) {
  const Lock lock(mutex_);
  doubts_ = std::move(table);
  if (stale_ && doubts_ != nullptr) doubts_->note(InFlightTable::kLogStale);
}

// --- writers ---

DirtyLog::Writer::Writer(DirtyLog* log, uint64_t begin, uint64_t end) : log_(log) {
  if (log_ == nullptr) return;
  AFTERIMAGE_ASSERT(begin < end && (end - 1) / kDirtyExtentBytes < log->extents_, "the log's own words");
  first_ = begin / kDirtyExtentBytes;
  last_ = (end - 1) / kDirtyExtentBytes;
  log_->enter(first_, last_);
}

DirtyLog::Writer::~Writer() {
  if (log_ != nullptr) log_->leave(first_, last_);
}

void DirtyLog::enter(uint64_t first, uint64_t last) {
  bool is_hot = true;
  for (uint64_t extent = first; extent <= last; ++extent) {
    const uint32_t before = word(extent).fetch_add(1);
    AFTERIMAGE_ASSERT((before & kWriters) < kWriters, "the writer count of an extent");
    if ((before & kTouched) == 0) word(extent).fetch_or(kTouched);
    is_hot &= (before & kMarked) != 0;
  }
  if (!is_hot) mark(first, last);
}

void DirtyLog::leave(uint64_t first, uint64_t last) {
  for (uint64_t extent = first; extent <= last; ++extent) word(extent).fetch_sub(1);
}

/// The extents are marked, and durably so, when it returns; if the log is void, in memory. Who calls it is
/// counted as a writer in each of them.
void DirtyLog::mark(uint64_t first, uint64_t last) noexcept {
  Lock lock(mutex_);
  if (!void_) {
    for (uint64_t extent = first; extent <= last; ++extent) {
      if ((word(extent).load() & kMarked) != 0) continue;
      pages_[page_of(extent)].bits[byte_of(extent)] |= bit_of(extent);
      set_pending(page_of(extent));
    }
    // Also where all bits were set already: who set them may still be waiting.
    if (!commit(lock, patience_)) be_impatient();
  }
  for (uint64_t extent = first; extent <= last; ++extent)
    if ((word(extent).fetch_or(kMarked) & kMarked) == 0) ++marked_;
}

void DirtyLog::mark_all() noexcept {
  Lock lock(mutex_);
  // Or an unmarking under way takes bits away again while these are being written.
  for (uint64_t extent = 0; extent < extents_; ++extent) word(extent).fetch_or(kTouched);
  if (!void_) {
    for (uint64_t extent = 0; extent < extents_; ++extent)
      pages_[page_of(extent)].bits[byte_of(extent)] |= bit_of(extent);
    for (uint32_t page = 0; page < pages_.size(); ++page) set_pending(page);
    if (!commit(lock, patience_for_all_)) be_impatient();
  }
  fill_marked();
}

void DirtyLog::begin_anew() noexcept {
  Lock lock(mutex_);
  if (!void_) {
    is_anew_wanted_ = true;
    changed_.notify_all();
    if (!wait(lock, patience_for_all_, [this] { return !is_anew_wanted_ || void_; })) be_impatient();
  }
  fill_marked();
}

void DirtyLog::refute() noexcept {
  if (!stale_) return;
  Lock lock(mutex_);
  is_refute_wanted_ = true;
  changed_.notify_all();
  wait(lock, std::min(kFarewell, patience_), [this] { return !is_refute_wanted_; });
}

Outcome DirtyLog::grow(uint64_t volume_bytes) noexcept {
  AFTERIMAGE_ASSERT(volume_bytes <= kDirtyVolumeBytesMax, "the bounds of the log");
  std::unique_ptr<DirtyLogFile> replaced;  // as in begin_anew()
  Lock lock(mutex_);
  AFTERIMAGE_ASSERT(volume_bytes >= volume_bytes_, "writers may be inside of what would go");
  const uint64_t extents = dirty_extents(volume_bytes);
  if (Outcome extended = words_memory_.extend(word_bytes(volume_bytes)); !extended.ok()) return extended;
  // What waits for the disk from here on is written to the new file.
  if (take_file(lock)) {
    const std::vector<DirtyPage> pages = pages_;
    lock.unlock();
    auto file = file_->grown(volume_bytes, pages);
    lock.lock();
    if (file.ok()) replaced = std::exchange(file_, std::move(*file));
    if (file.ok() && !void_) {
      grow_pages(&pages_, volume_bytes_, volume_bytes);
      make_room();
      sequence_ = 0;
      const std::vector<DirtyPage> written = file_->take_pages();
      for (size_t page = 0; page < pages_.size(); ++page) {
        pages_[page].sequence = written[page].sequence;
        sequence_ += written[page].sequence;
      }
    } else {
      give_up(lock, "the dirty log cannot be made longer: ", file.ok() ? "" : file.error().message);
    }
    give_back_file();
  }
  synced_generation_ = 0;
  for (uint64_t extent = extents_; extent < extents; ++extent) new (words_ + extent) std::atomic<uint32_t>(0);
  for (uint64_t extent = volume_bytes_ / kDirtyExtentBytes; extent < extents; ++extent)
    if ((word(extent).fetch_or(kMarked | kTouched) & kMarked) == 0) ++marked_;
  volume_bytes_ = volume_bytes;
  extents_ = extents;
  return Nothing{};
}

// --- unmarking ---

uint64_t DirtyLog::flush_began() { return flushes_begun_.fetch_add(1) + 1; }

void DirtyLog::flush_ended(uint64_t ticket, bool has_succeeded) {
  if (!has_succeeded) {
    flush_failed_ = true;
    if (doubts_ != nullptr) doubts_->note(InFlightTable::kBackingLostWrites);
    return;
  }
  uint64_t before = flushed_.load();
  while (before < ticket && !flushed_.compare_exchange_weak(before, ticket)) {
  }
}

bool DirtyLog::has_flushed(uint64_t ticket) const { return !flush_failed_ && flushed_ >= ticket; }

uint64_t DirtyLog::cut(uint32_t idle_cuts) {
  uint64_t chosen = 0;
  for (uint64_t extent = 0; extent < extents_; ++extent) {
    std::atomic<uint32_t>& word = words_[extent];
    uint32_t before = word.load(std::memory_order_relaxed);
    if (before == 0 || (before & kWriters) != 0) continue;
    uint32_t after = before;
    if ((before & kTouched) != 0) {
      after &= ~(kTouched | kIdle);
    } else if ((before & kIdle) != kIdle) {
      after += kIdleCut;
    }
    // Only from exactly this: a writer that comes now keeps its extent touched.
    if (word.compare_exchange_strong(before, after) && is_idle(after, idle_cuts)) ++chosen;
  }
  return chosen;
}

uint64_t DirtyLog::unmark(uint64_t basis_generation, uint64_t basis_lsn, uint32_t idle_cuts) noexcept {
  uint64_t unmarked = 0;
  for (uint64_t begin = 0; begin < extents_; begin += kStretch) {
    const uint64_t end = std::min(begin + kStretch, extents_.load());
    Lock lock(mutex_, std::defer_lock);
    for (uint64_t extent = begin; extent < end; ++extent) {
      uint32_t expected = word(extent).load(std::memory_order_relaxed);
      if (!is_idle(expected, idle_cuts)) continue;
      // Under the mutex, and the bit with it: a writer that now finds it cold sets the bit after this, not
      // before.
      if (!lock.owns_lock()) {
        lock.lock();
        basis_generation_ = basis_generation;
        basis_lsn_ = basis_lsn;
      }
      if (!word(extent).compare_exchange_strong(expected, 0)) continue;
      --marked_;
      ++unmarked;
      if (void_) continue;
      DirtyPage& page = pages_[page_of(extent)];
      page.bits[byte_of(extent)] &= ~bit_of(extent);
      page.basis_generation = basis_generation;
      page.basis_lsn = basis_lsn;
      set_pending(page_of(extent));
    }
  }
  if (unmarked == 0) return 0;
  Lock lock(mutex_);
  // Should that last too long it is done later: until then the disk has more marks than it needs.
  if (!void_) commit(lock, std::min(kFarewell, patience_));
  return unmarked;
}

// --- the file; the mutex is held ---

void DirtyLog::set_pending(uint32_t page) {
  if (is_pending_[page]) return;
  is_pending_[page] = true;
  pending_.push_back(page);
}

/// Returns when the pages are durable as they are now, or the log is void. False: neither within `patience`.
bool DirtyLog::commit(Lock& lock, std::chrono::milliseconds patience) {
  const uint64_t wanted = ++requested_;
#ifdef AFTERIMAGE_SABOTAGE_ENTER_BEFORE_MARK
  if (is_file_taken_)
    return true;  // breaks R8: who finds another one's writing under way does not wait for the sync
#endif
  if (!is_file_taken_) changed_.notify_all();
  return wait(lock, patience, [&] { return committed_ >= wanted || void_; });
}

/// In parts, so that a process that was stopped for long still has some of it when it goes on. False: in
/// vain.
template <typename Is>
bool DirtyLog::wait(Lock& lock, std::chrono::milliseconds patience, const Is& is_over) {
  for (int part = 0; part < kPatienceParts; ++part)
    if (changed_.wait_for(lock, patience / kPatienceParts, is_over)) return true;
  return false;
}

/// Whoever has the file withdraws it as soon as the disk lets go of the call that hangs.
void DirtyLog::be_impatient() { become_void(kCannotWrite, "its disk does not answer", true); }

/// False: the log is void. True: until give_back_file() nobody else uses or replaces the file.
bool DirtyLog::take_file(Lock& lock) {
  ++file_waiters_;
  changed_.wait(lock, [this] { return !is_file_taken_ || void_; });
  --file_waiters_;
  if (void_) return false;
  is_file_taken_ = true;
  return true;
}

void DirtyLog::give_back_file() {
  is_file_taken_ = false;
  changed_.notify_all();
}

/// Production waits for it.
void DirtyLog::run(PathTurn& turn) noexcept {
  enter_io_thread("ai-dirty-marks");
  turn.wait();
  Lock lock(mutex_);
  open_file(lock, turn.is_refuted());
  const auto has_work = [this] {
    return is_refute_wanted_ || (!void_ && (is_anew_wanted_ || committed_ < requested_));
  };
  while (true) {
    // Not before those that wait for the file: there may be no end of work.
    changed_.wait(lock, [&] { return has_work() ? !is_file_taken_ && file_waiters_ == 0 : is_closing_; });
    if (!has_work()) break;
    is_file_taken_ = true;
    if (is_refute_wanted_)
      refute_now(lock);
    else if (is_anew_wanted_)
      make_anew(lock);
    else
      write_pending(lock);
    give_back_file();
  }
  // Of one that nobody wrote under the file is right.
  turn.leave(stale_ && (turn.is_refuted() || doubts_ != nullptr));
  has_ended_ = true;
  changed_.notify_all();
}

/// For all that wait. The file is taken.
void DirtyLog::write_pending(Lock& lock) {
  const uint64_t upto = requested_;
  std::swap(writing_, pending_);
  for (const uint32_t page : writing_) is_pending_[page] = false;
  const Errno error = write_pages(lock);
  if (error == 0 && !void_) {
    sequence_ += writing_.size();
    committed_ = upto;
  } else {
    give_up(lock, kCannotWrite, std::strerror(error));
  }
  writing_.clear();
}

Errno DirtyLog::write_pages(Lock& lock) {
  for (const uint32_t index : writing_) {
    ++pages_[index].sequence;
    written_ = pages_[index];
    lock.unlock();
    const Errno error = file_->write(index, written_);
    lock.lock();
    if (error != 0 || void_) return error;
  }
  lock.unlock();
#ifdef AFTERIMAGE_SABOTAGE_MARK_UNSYNCED  // breaks R8: power loss takes the marks
  const Errno error = 0;
#else
  const Errno error = file_->sync();
#endif
  lock.lock();
  return error;
}

/// The file is taken, and lacks marks, or will. It is withdrawn before those that wait go on, unless they
/// have lost patience and the log is void already.
void DirtyLog::give_up(Lock& lock, std::string_view what, std::string_view why) {
  // Meanwhile this process may be killed, and what could not be synced looks well from the page cache.
  if (doubts_ != nullptr) doubts_->note(InFlightTable::kLogStale);
  lock.unlock();
  const Errno error = file_ != nullptr ? file_->invalidate() : DirtyLogFile::discard(path_, disk_);
  lock.lock();
  if (!void_) become_void(what, why, error != 0);
  if (error != 0) return;
  stale_ = false;
  if (doubts_ != nullptr) doubts_->forget(InFlightTable::kLogStale);
}

// --- what is known ---

DirtyLog::State DirtyLog::state() const {
  const std::lock_guard lock(mutex_);
  State state;
  state.id = void_ ? 0 : file_->id();
  state.sequence = sequence_;
  state.basis_generation = basis_generation_;
  state.basis_lsn = basis_lsn_;
  state.extents = extents_;
  state.marked = marked_;
  state.flush_failed = flush_failed_;
  state.distrust = distrust_;
  state.fault = fault_;
  state.is_stale = stale_;
  return state;
}

bool DirtyLog::is_marked(uint64_t offset) const {
  return (word(offset / kDirtyExtentBytes).load() & kMarked) != 0;
}

std::vector<std::byte> DirtyLog::bitmap() const {
  const uint64_t extents = extents_;
  std::vector<std::byte> bitmap((extents + 7) / 8);
  for (uint64_t extent = 0; extent < extents; ++extent)
    if ((word(extent).load() & kMarked) != 0) bitmap[extent / 8] |= bit_of(extent);
  return bitmap;
}

}  // namespace afterimage
