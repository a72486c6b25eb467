#include "journal/segment_index.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

namespace afterimage {
namespace {

bool is_exhaustion(Errno error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

}  // namespace

Error open_error(const std::string& path, Errno error) {
  return system_error(error == EMFILE || error == ENFILE ? "FILE_LIMIT" : "IO_ERROR", "open " + path, error);
}

Result<std::unique_ptr<SegmentIndex>> SegmentIndex::open(const Source& source, uint16_t volume,
                                                         uint64_t lsn_max) {
  const SegmentInfo& segment = source.segment;
  std::unique_ptr<SegmentIndex> index(new SegmentIndex);
  index->segment_ = segment;
  index->volume_ = volume;
  index->lsn_max_ = lsn_max;
  index->fd_.reset(::open(segment.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!index->fd_) return open_error(segment.path, errno);
  struct stat status {};
  if (::fstat(index->fd_.get(), &status) != 0) return system_error("IO_ERROR", "stat " + segment.path, errno);
  if (static_cast<uint64_t>(status.st_size) < segment.bytes)
    return Error{"SEGMENT_CORRUPT", segment.path + ": shorter than it was"};

  // A run knows only the newest of its whole segment: of no use for a point in the middle.
  if (!source.run_path.empty() && lsn_max >= segment.last_lsn) {
    auto run = Run::open(source.run_path, source.run_pages_kept_max);
    if (!run.ok() && is_exhaustion(run.error().sys)) return open_error(source.run_path, run.error().sys);
    if (run.ok() && (*run)->segments().size() == 1 && (*run)->segments()[0].is(segment)) {
      index->run_ = std::move(*run);
      return index;
    }
  }
  if (Outcome scanned = index->scan(); !scanned.ok()) return scanned.error();
  return index;
}

Outcome SegmentIndex::scan() {
  const std::lock_guard lock(scanning_);
  if (is_scanned_.load(std::memory_order_relaxed)) return Nothing{};
  SegmentInfo through_fd = segment_;
  through_fd.path = "/proc/self/fd/" + std::to_string(fd_.get());  // its own path may be gone by now
  auto map = index_segment(through_fd, volume_, lsn_max_);
  if (!map.ok() && is_exhaustion(map.error().sys)) return open_error(segment_.path, map.error().sys);
  if (!map.ok()) return Error{map.error().code, segment_.path + ": " + map.error().message, map.error().sys};
  map_ = std::move(*map);
  is_scanned_.store(true, std::memory_order_release);
  return Nothing{};
}

Outcome SegmentIndex::lookup(uint64_t start, uint64_t length, std::vector<RunEntry>* entries) {
  if (uses_run()) {
    const size_t before = entries->size();
    if (run_->lookup(volume_, start, length, entries).ok()) return Nothing{};
    entries->resize(before);
    if (Outcome scanned = scan(); !scanned.ok()) return scanned;
  }
  map_->lookup(start, length, entries);
  return Nothing{};
}

}  // namespace afterimage
