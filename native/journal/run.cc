#include "journal/run.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "os/crc32c.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

constexpr uint64_t kRunBytesMax = 1ull << 44;     // keeps sums of offsets far from overflow
constexpr uint64_t kTablesBytesMax = 1ull << 30;  // held in memory: those of 256 GiB of pages

Error corrupt(const std::string& path, const char* what) { return Error{"RUN_CORRUPT", path + ": " + what}; }

/// All of [offset, offset + bytes), or RUN_CORRUPT: whether the disk fails or the file ends, who needs what
/// is there goes to the segment.
Outcome read_fully(int fd, const std::string& path, void* into, uint64_t bytes, uint64_t offset) {
  uint64_t got = 0;
  if (const Errno error = read_at(fd, into, bytes, offset, &got))
    return system_error("RUN_CORRUPT", "read " + path, error);
  if (got < bytes) return corrupt(path, "shorter than it was");
  return Nothing{};
}

uint64_t table_bytes(const RunHeader& header) {
  return header.segment_count * sizeof(RunSegment) + header.volume_count * sizeof(RunVolume) +
         header.page_count * sizeof(RunFence);
}

}  // namespace

uint64_t run_pages_offset(const RunHeader& header) {
  const uint64_t bytes = sizeof(RunHeader) + table_bytes(header);
  return (bytes + kRunPageBytes - 1) / kRunPageBytes * kRunPageBytes;
}

RunEntry RunExtent::unpack() const {
  return {.start = words[0] >> 24,
          .length = static_cast<uint32_t>(words[0] & 0xffffff),
          .segment = static_cast<uint32_t>(words[1] >> 46),
          .frame_offset = (words[1] >> 23 & 0x7fffff) * 8,
          .record = static_cast<uint32_t>(words[1] >> 11 & 0xfff),
          .record_sector = static_cast<uint32_t>(words[1] & 0x7ff)};
}

Result<bool> is_run_of(const SegmentInfo& segment, const std::string& run_path) {
  const auto run = Run::open(run_path);
  if (run.ok()) return (*run)->segments().size() == 1 && (*run)->segments().front().is(segment);
  if (std::strcmp(run.error().code, "IO_ERROR") == 0 && run.error().sys != ENOENT) return run.error();
  return false;
}

Result<std::unique_ptr<Run>> Run::open(const std::string& path, uint32_t pages_kept_max) {
  std::unique_ptr<Run> run(new Run);
  run->path_ = path;
  run->fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!run->fd_) return system_error("IO_ERROR", "open " + path, errno);
  struct stat status {};
  if (::fstat(run->fd_.get(), &status) != 0) return system_error("IO_ERROR", "stat " + path, errno);
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  if (file_bytes < sizeof(RunHeader)) return corrupt(path, "shorter than its header");
  if (Outcome got = read_fully(run->fd_.get(), path, &run->header_, sizeof(RunHeader), 0); !got.ok())
    return got.error();
  if (Outcome checked = run->check_header(file_bytes); !checked.ok()) return checked.error();
  if (Outcome got = run->read_tables(); !got.ok()) return got.error();
  if (Outcome checked = run->check_tables(); !checked.ok()) return checked.error();
  run->kept_.resize(std::min<uint64_t>(run->header_.page_count, pages_kept_max));
  return run;
}

Outcome Run::check_header(uint64_t file_bytes) const {
  if (std::memcmp(header_.magic, kRunMagic, sizeof(kRunMagic)) != 0) return corrupt(path_, "magic");
  if (header_.version != kRunVersion || header_.header_bytes != sizeof(RunHeader))
    return Error{"RUN_VERSION", path_ + ": written by another version"};
  if (crc32c(&header_, offsetof(RunHeader, header_crc32c)) != header_.header_crc32c)
    return corrupt(path_, "header checksum");
  if ((header_.flags & kFlagsCritical) != 0) return Error{"RUN_VERSION", path_ + ": unknown critical flag"};
  if (header_.segment_count == 0 || header_.segment_count > kRunSegmentsMax)
    return corrupt(path_, "segment count");
  if (header_.volume_count > kVolumeNumberMax + 1u) return corrupt(path_, "volume count");
  if (file_bytes > kRunBytesMax || header_.page_count > file_bytes / kRunPageBytes)
    return corrupt(path_, "page count");
  if (table_bytes(header_) > kTablesBytesMax) return corrupt(path_, "size of the tables");
  if (header_.pages_offset != run_pages_offset(header_)) return corrupt(path_, "offset of the pages");
  if (header_.file_bytes != header_.pages_offset + header_.page_count * kRunPageBytes ||
      header_.file_bytes != file_bytes)
    return corrupt(path_, "file size");
  return Nothing{};
}

Outcome Run::read_tables() {
  static_assert(alignof(RunSegment) == 8 && sizeof(RunSegment) % 8 == 0 && sizeof(RunVolume) % 8 == 0);
  const uint64_t bytes = table_bytes(header_);
  tables_.resize(bytes / sizeof(uint64_t));
  if (Outcome got = read_fully(fd_.get(), path_, tables_.data(), bytes, sizeof(RunHeader)); !got.ok())
    return got;
  const auto* at = reinterpret_cast<const std::byte*>(tables_.data());
  segments_ = {reinterpret_cast<const RunSegment*>(at), header_.segment_count};
  at += segments_.size_bytes();
  volumes_ = {reinterpret_cast<const RunVolume*>(at), header_.volume_count};
  at += volumes_.size_bytes();
  fences_ = {reinterpret_cast<const RunFence*>(at), header_.page_count};
  return Nothing{};
}

Outcome Run::check_tables() {
  if (crc32c(segments_.data(), segments_.size_bytes() + volumes_.size_bytes() + fences_.size_bytes()) !=
      header_.tables_crc32c)
    return corrupt(path_, "checksum of the tables");

  uint64_t previous = 0;
  for (const RunSegment& segment : segments_) {
    if (segment.first_lsn <= previous || segment.last_lsn < segment.first_lsn)
      return corrupt(path_, "order of the segments");
    previous = segment.last_lsn;
  }
  if (segments_.front().first_lsn != header_.first_lsn || previous != header_.last_lsn)
    return corrupt(path_, "LSN range");

  uint64_t pages = 0;
  int number = -1;
  for (const RunVolume& volume : volumes_) {
    if (volume.number <= number || volume.number > kVolumeNumberMax) return corrupt(path_, "volume number");
    number = volume.number;
    if (volume.first_page != pages || volume.page_count == 0 ||
        volume.page_count > header_.page_count - pages ||
        volume.entry_count > uint64_t{volume.page_count} * kRunEntriesPerPage ||
        volume.entry_count <= (volume.page_count - 1ull) * kRunEntriesPerPage)
      return corrupt(path_, "a volume's pages");
    for (uint64_t i = 1; i < volume.page_count; ++i)
      if (fences_[pages + i].start <= fences_[pages + i - 1].start)
        return corrupt(path_, "order of the fence");
    pages += volume.page_count;
  }
  if (pages != header_.page_count) return corrupt(path_, "page count");
  return Nothing{};
}

const RunVolume* Run::find(uint16_t volume) const {
  for (const RunVolume& candidate : volumes_)
    if (candidate.number == volume) return &candidate;
  return nullptr;
}

Result<std::shared_ptr<const Run::Page>> Run::page(const RunVolume& volume, uint64_t index) const {
  const uint64_t number = volume.first_page + index;
  Kept& kept = kept_[number % kept_.size()];
  {
    const std::lock_guard lock(mutex_);
    if (kept.page && kept.index == number) return kept.page;
  }
  auto page = std::make_shared<Page>();
  const uint64_t offset = header_.pages_offset + number * kRunPageBytes;
  if (Outcome got = read_fully(fd_.get(), path_, page->data(), kRunPageBytes, offset); !got.ok())
    return got.error();
  if (crc32c(page->data(), kRunPageBytes) != fences_[number].crc32c)
    return corrupt(path_, "checksum of a page");
  if (Outcome checked = check_page(volume, index, *page); !checked.ok()) return checked.error();
  const std::lock_guard lock(mutex_);
  kept = {number, std::move(page)};
  return kept.page;
}

std::span<const RunExtent> Run::used(const RunVolume& volume, uint64_t index, const Page& page) {
  const uint64_t before = index * kRunEntriesPerPage;
  return std::span(page).first(std::min<uint64_t>(kRunEntriesPerPage, volume.entry_count - before));
}

Outcome Run::check_page(const RunVolume& volume, uint64_t index, const Page& page) const {
  const RunFence* const fence = &fences_[volume.first_page + index];
  const bool is_last = index + 1 == volume.page_count;
  const uint64_t until = is_last ? kSectorsMax : std::min(kSectorsMax, fence[1].start);
  uint64_t from = fence->start;
  if (page.front().unpack().start != from) return corrupt(path_, "a page does not begin at its fence");
  for (const RunExtent& extent : used(volume, index, page)) {
    const RunEntry entry = extent.unpack();
    if (entry.length == 0 || entry.start < from || entry.end() > until || entry.segment >= segments_.size())
      return corrupt(path_, "an extent");
    from = entry.end();
  }
  return Nothing{};
}

Outcome Run::lookup(uint16_t volume, uint64_t start, uint64_t length, std::vector<RunEntry>* entries) const {
  const RunVolume* found = find(volume);
  if (found == nullptr || length == 0 || start >= kSectorsMax) return Nothing{};
  const uint64_t end = std::min(kSectorsMax, start + std::min(length, kSectorsMax));
  const auto fences = fences_.subspan(found->first_page, found->page_count);
  // The last page that begins at or before `start` is the first that can hold it.
  const auto behind =
      std::upper_bound(fences.begin(), fences.end(), start,
                       [](uint64_t sector, const RunFence& fence) { return sector < fence.start; });
  uint64_t index = behind == fences.begin() ? 0 : static_cast<uint64_t>(behind - fences.begin()) - 1;
  for (; index < found->page_count && fences[index].start < end; ++index) {
    const auto held = page(*found, index);
    if (!held.ok()) return held.error();
    const std::span<const RunExtent> extents = used(*found, index, **held);
    auto at = std::partition_point(extents.begin(), extents.end(),
                                   [&](const RunExtent& extent) { return extent.unpack().end() <= start; });
    for (; at != extents.end() && at->unpack().start < end; ++at)
      entries->push_back(at->unpack().clipped(start, end));
  }
  return Nothing{};
}

}  // namespace afterimage
