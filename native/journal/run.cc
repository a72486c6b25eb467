#include "journal/run.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "os/crc32c.h"
#include "os/fd.h"

namespace afterimage {
namespace {

constexpr uint64_t kRunBytesMax = 1ull << 44;  // keeps sums of offsets far from overflow

Error corrupt(const std::string& path, const char* what) { return Error{"RUN_CORRUPT", path + ": " + what}; }

}  // namespace

uint64_t run_pages_offset(const RunHeader& header) {
  const uint64_t tables = sizeof(RunHeader) + header.segment_count * sizeof(RunSegment) +
                          header.volume_count * sizeof(RunVolume) + header.page_count * sizeof(RunFence);
  return (tables + kRunPageBytes - 1) / kRunPageBytes * kRunPageBytes;
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

Result<std::unique_ptr<Run>> Run::open(const std::string& path) {
  std::unique_ptr<Run> run(new Run);
  run->path_ = path;
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return system_error("IO_ERROR", "open " + path, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_error("IO_ERROR", "stat " + path, errno);
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  if (file_bytes < sizeof(RunHeader)) return corrupt(path, "shorter than its header");
  const ssize_t got = ::pread(fd.get(), &run->header_, sizeof(RunHeader), 0);
  if (got < 0) return system_error("IO_ERROR", "read " + path, errno);
  if (got != sizeof(RunHeader)) return corrupt(path, "shorter than its header");
  if (Outcome checked = run->check_header(file_bytes); !checked.ok()) return checked.error();
  // The mapping is exactly the file: no touch of it can lie beyond the end.
  void* mapped = ::mmap(nullptr, file_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) return system_error("IO_ERROR", "map " + path, errno);
  run->mapped_ = static_cast<const std::byte*>(mapped);
  if (Outcome checked = run->check_tables(); !checked.ok()) return checked.error();
  return run;
}

Run::~Run() {
  if (mapped_ != nullptr) ::munmap(const_cast<std::byte*>(mapped_), header_.file_bytes);
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
  if (header_.pages_offset != run_pages_offset(header_)) return corrupt(path_, "offset of the pages");
  if (header_.file_bytes != header_.pages_offset + header_.page_count * kRunPageBytes ||
      header_.file_bytes != file_bytes)
    return corrupt(path_, "file size");
  return Nothing{};
}

Outcome Run::check_tables() {
  const std::byte* at = mapped_ + sizeof(RunHeader);
  segments_ = {reinterpret_cast<const RunSegment*>(at), header_.segment_count};
  at += segments_.size_bytes();
  volumes_ = {reinterpret_cast<const RunVolume*>(at), header_.volume_count};
  at += volumes_.size_bytes();
  fences_ = {reinterpret_cast<const RunFence*>(at), header_.page_count};
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
  checked_ = std::make_unique<std::atomic<bool>[]>(pages);
  return Nothing{};
}

const RunVolume* Run::find(uint16_t volume) const {
  for (const RunVolume& candidate : volumes_)
    if (candidate.number == volume) return &candidate;
  return nullptr;
}

uint64_t Run::entry_count(uint16_t volume) const {
  const RunVolume* found = find(volume);
  return found == nullptr ? 0 : found->entry_count;
}

Result<std::span<const RunExtent>> Run::page(const RunVolume& volume, uint64_t index) const {
  const uint64_t page = volume.first_page + index;
  const std::byte* bytes = mapped_ + header_.pages_offset + page * kRunPageBytes;
  const uint64_t before = index * kRunEntriesPerPage;
  const std::span<const RunExtent> extents(
      reinterpret_cast<const RunExtent*>(bytes),
      std::min<uint64_t>(kRunEntriesPerPage, volume.entry_count - before));
  // Two threads may both check: the result is the same.
  if (checked_[page].load(std::memory_order_relaxed)) return extents;
  if (crc32c(bytes, kRunPageBytes) != fences_[page].crc32c) return corrupt(path_, "checksum of a page");
  const bool is_last = index + 1 == volume.page_count;
  const uint64_t until = is_last ? kSectorsMax : std::min(kSectorsMax, fences_[page + 1].start);
  uint64_t from = fences_[page].start;
  if (extents.front().unpack().start != from) return corrupt(path_, "a page does not begin at its fence");
  for (const RunExtent& extent : extents) {
    const RunEntry entry = extent.unpack();
    if (entry.length == 0 || entry.start < from || entry.end() > until || entry.segment >= segments_.size())
      return corrupt(path_, "an extent");
    from = entry.end();
  }
  checked_[page].store(true, std::memory_order_relaxed);
  return extents;
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
    const auto extents = page(*found, index);
    if (!extents.ok()) return extents.error();
    auto at = std::partition_point(extents->begin(), extents->end(),
                                   [&](const RunExtent& extent) { return extent.unpack().end() <= start; });
    for (; at != extents->end() && at->unpack().start < end; ++at)
      entries->push_back(at->unpack().clipped(start, end));
  }
  return Nothing{};
}

}  // namespace afterimage
