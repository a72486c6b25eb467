#include "capture/spooler.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <utility>

#include "os/io_thread.h"

namespace afterimage {
namespace {

using std::chrono::milliseconds;

/// While the oldest record is still being copied into the ring.
constexpr milliseconds kWholeSoon{1};
/// What failed is tried again after this, or when room was made.
constexpr milliseconds kRetry{1000};

/// A directory that was not looked at by then is on a disk that hangs.
constexpr milliseconds kLookPatience{2000};

constexpr uint64_t kFileBytesMin = 4ull << 20;
constexpr uint64_t kFileBytesMax = 64ull << 20;
/// A spool is so many files at least: room comes back file by file.
constexpr uint64_t kFiles = 16;
constexpr size_t kBatchBytes = sizeof(SpoolBatchHeader) + kSpoolBatchBytesMax;
static_assert(kFileBytesMin >= sizeof(SpoolFileHeader) + kBatchBytes, "a file holds a batch");
static_assert(kSpoolBytesMin >= 2 * kFileBytesMin, "one file is read while the next is written");

std::byte* new_batch() {
  void* const bytes = std::aligned_alloc(alignof(RingRecord), kBatchBytes);
  if (bytes == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(bytes);
}

}  // namespace

void Spooler::Free::operator()(std::byte* bytes) const { std::free(bytes); }

Spooler::Spooler(Backlog* backlog, const SpoolOwner& owner, Options options)
    : backlog_(*backlog),
      owner_(owner),
      options_(std::move(options)),
      file_bytes_(std::clamp(options_.bytes_max / kFiles, kFileBytesMin, kFileBytesMax)),
      batch_(new_batch()) {}

Spooler::~Spooler() { end(); }

void Spooler::begin(std::function<void()> on_found) {
  begun_ = std::chrono::steady_clock::now();
  thread_ = std::thread([this, on_found = std::move(on_found)] {
    enter_thread("spooler");
    look();
    on_found();
    run();
  });
}

void Spooler::end() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Spooler::remove_files() {
  std::vector<std::string> paths = backlog_.take_dropped();
  {
    const std::lock_guard lock(mutex_);
    paths.insert(paths.end(), leftovers_.begin(), leftovers_.end());
    leftovers_.clear();
  }
  for (const std::string& path : paths) ::unlink(path.c_str());
}

Spooler::State Spooler::state() const {
  const std::lock_guard lock(mutex_);
  if (!has_looked_ && std::chrono::steady_clock::now() - begun_ > kLookPatience)
    return {"SPOOL_IO", "spool directory " + options_.directory + ": it does not answer", ""};
  return {fault_, message_, foreign_};
}

void Spooler::wake() {
  asleep_.store(false, std::memory_order_relaxed);  // one publisher is enough
  const std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

// --- the thread ---

void Spooler::look() {
  const Backlog::Stretch awaited = backlog_.awaited();
  const auto survey = survey_spool(options_.directory, owner_, awaited.first, awaited.end);
  backlog_.found(survey);
  is_lost_ = backlog_.is_lost();
  // What is wrong with the files alone costs what is in them, and their loss is told of where they are read.
  if (!survey.ok() && std::strcmp(survey.error().code, "SPOOL_IO") == 0) failed(survey.error());
  const std::lock_guard lock(mutex_);
  has_looked_ = true;
  if (!survey.ok()) return;
  leftovers_ = survey->leftovers;
  foreign_.clear();
  for (const std::string& path : survey->foreign) foreign_ += (foreign_.empty() ? "" : ", ") + path;
}

void Spooler::run() {
  const auto is_stopping = [this] {
    const std::lock_guard lock(mutex_);
    return stopping_;
  };
  while (!is_stopping()) {
    if (is_lost_ && !backlog_.is_lost()) look();  // nobody needs what is left of it any more
    remove_files();                               // first: a new one may have the name of a leftover
    switch (backlog_.is_ring_crowded() ? spool_batch() : Step::kDone) {
      case Step::kDone:
        if (!backlog_.is_ring_crowded()) {
          if (fault() != nullptr && std::strcmp(fault(), "SPOOL_FULL") == 0) succeeded();
          sleep(std::nullopt);
        }
        break;
      case Step::kNothingWhole:
        sleep(kWholeSoon);
        break;
      case Step::kFailed:
        sleep(kRetry);
        break;
    }
  }
}

/// `most`: null: until the ring is crowded. Either is cut short when files are dropped.
void Spooler::sleep(std::optional<milliseconds> most) {
  std::unique_lock lock(mutex_);
  const auto is_over = [this] { return woken_ || stopping_; };
  if (most) {
    changed_.wait_for(lock, *most, is_over);
  } else {
    asleep_.store(true, std::memory_order_seq_cst);
    if (!backlog_.is_ring_crowded()) changed_.wait(lock, is_over);  // looked at after announcing the sleep
    asleep_.store(false, std::memory_order_relaxed);
  }
  woken_ = false;
}

Spooler::Step Spooler::spool_batch() {
  // Also where it is forgotten by now: what is written before the next look would be taken for a leftover of
  // it.
  if (is_lost_) return Step::kFailed;
  const std::optional<SpoolBatch> batch = backlog_.copy_oldest(batch_.get());
  if (!batch) return Step::kNothingWhole;
  const auto files = backlog_.files(writer_ ? writer_->path() : "");
  const bool is_new = !writer_ || !files.ends_with_path || !writer_->fits(*batch);
  if (is_new && (files.count + 1) * file_bytes_ > options_.bytes_max) {
    failed({"SPOOL_FULL", "all " + std::to_string(options_.bytes_max) + " bytes of the spool are in use"});
    return Step::kFailed;
  }
  if (const Outcome written = write(*batch, is_new); !written.ok()) {
    failed(written.error());
    return Step::kFailed;
  }
  if (backlog_.hand_over(*batch, writer_->path(), is_new)) {
    writer_->accept(*batch);
  } else if (is_new) {
    ::unlink(writer_->path().c_str());
    writer_.reset();
  }
  succeeded();
  return Step::kDone;
}

Outcome Spooler::write(const SpoolBatch& batch, bool is_new) {
  if (is_new) {
    writer_.reset();
    std::error_code ignored;  // the file cannot be made then, and says why
    std::filesystem::create_directories(options_.directory, ignored);
    auto writer = SpoolFileWriter::create(spool_file_path(options_.directory, owner_, batch.position), owner_,
                                          batch, file_bytes_, options_.headroom_bytes);
    if (!writer.ok()) return writer.error();
    writer_ = std::move(*writer);
  }
  Outcome written = writer_->write(batch);
  if (written.ok()) return written;
  // What a device has failed once is not written to again.
  if (is_new) ::unlink(writer_->path().c_str());
  writer_.reset();
  return written;
}

/// What is in the way of nothing any more.
void Spooler::succeeded() {
  const std::lock_guard lock(mutex_);
  fault_ = nullptr;
  message_.clear();
}

void Spooler::failed(const Error& error) {
  const std::lock_guard lock(mutex_);
  fault_ = error.code;
  message_ = error.message;
}

}  // namespace afterimage
