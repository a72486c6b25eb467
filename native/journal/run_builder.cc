#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "journal/journal_file.h"
#include "journal/run.h"
#include "journal/segment_cursor.h"
#include "os/assert.h"
#include "os/crc32c.h"
#include "os/fd.h"

namespace afterimage {
namespace {

static_assert(kSegmentBytesMax / 8 <= 1u << 23 && kRecordsPerFrameMax <= 1u << 12);
static_assert(kRecordBytesMax / 512 <= 1u << 11);

template <typename T>
void append(std::vector<std::byte>* bytes, std::span<const T> items) {
  const auto raw = std::as_bytes(items);
  bytes->insert(bytes->end(), raw.begin(), raw.end());
}

/// One volume's entries as pages, with a fence entry for each.
void append_pages(const std::vector<RunEntry>& entries, std::vector<RunFence>* fences,
                  std::vector<std::byte>* pages) {
  for (size_t first = 0; first < entries.size(); first += kRunEntriesPerPage) {
    RunExtent page[kRunEntriesPerPage] = {};
    const size_t count = std::min<size_t>(kRunEntriesPerPage, entries.size() - first);
    for (size_t i = 0; i < count; ++i) page[i] = RunExtent::pack(entries[first + i]);
    fences->push_back({.start = entries[first].start, .crc32c = crc32c(page, sizeof page), .reserved = 0});
    append<RunExtent>(pages, page);
  }
}

Errno write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return 0;
}

/// The file has its name only once all of it is on stable storage.
Outcome publish(const std::string& path, std::span<const std::byte> head, std::span<const std::byte> pages) {
  const std::string temporary = path + ".tmp";
  const auto failed = [&](const char* call, Errno error) {
    ::unlink(temporary.c_str());
    return system_error("IO_ERROR", call + temporary, error);
  };
  const Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return system_error("IO_ERROR", "create " + temporary, errno);
  if (const Errno error = write_all(file.get(), head)) return failed("write ", error);
  if (const Errno error = write_all(file.get(), pages)) return failed("write ", error);
  if (const Errno error = JournalFile::system().fsync(file.get())) return failed("sync ", error);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed("rename ", errno);
  const std::string directory = path.substr(0, path.find_last_of('/') + 1);
  const Fd parent(::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return system_error("IO_ERROR", "open " + directory, errno);
  if (const Errno error = JournalFile::system().fsync(parent.get()))
    return system_error("IO_ERROR", "sync " + directory, error);
  return Nothing{};
}

}  // namespace

RunExtent RunExtent::pack(const RunEntry& entry) {
  AFTERIMAGE_ASSERT(entry.start < kSectorsMax && entry.length <= kExtentSectorsMax &&
                        entry.segment < kRunSegmentsMax && entry.frame_offset % 8 == 0,
                    "an index entry's bits");
  return {{entry.start << 24 | entry.length, uint64_t{entry.segment} << 46 | entry.frame_offset / 8 << 23 |
                                                 uint64_t{entry.record} << 11 | entry.record_sector}};
}

Outcome build_run(const SegmentInfo& segment, const std::string& run_path) {
  AFTERIMAGE_ASSERT(segment.frames > 0, "a run has an LSN range");
  auto maps = index_segment(segment, segment.last_lsn);
  if (!maps.ok()) return maps.error();
  auto cursor = SegmentCursor::open(segment.path, SegmentCursor::Depth::kTables, kSegmentHeaderBytes);
  if (!cursor.ok()) return cursor.error();
  const SegmentHeader& source = (*cursor)->header();

  std::vector<RunVolume> volumes;
  std::vector<RunFence> fences;
  std::vector<std::byte> pages;
  for (const auto& [number, map] : *maps) {
    std::vector<RunEntry> entries;
    map.lookup(0, kSectorsMax, &entries);
    RunVolume volume{};
    volume.number = number;
    volume.first_page = fences.size();
    volume.entry_count = entries.size();
    for (const SegmentVolume& listed : std::span(source.volumes, source.volume_count))
      if (listed.number == number) volume.uuid = listed.uuid;
    append_pages(entries, &fences, &pages);
    volume.page_count = static_cast<uint32_t>(fences.size() - volume.first_page);
    volumes.push_back(volume);
  }
  const RunSegment indexed{.first_lsn = segment.first_lsn,
                           .last_lsn = segment.last_lsn,
                           .generation = segment.generation,
                           .bytes = segment.bytes,
                           .link = segment.link,
                           .reserved = 0};

  RunHeader header{};
  std::memcpy(header.magic, kRunMagic, sizeof(kRunMagic));
  header.version = kRunVersion;
  header.header_bytes = sizeof(RunHeader);
  header.group = source.group;
  header.member = source.member;
  header.first_lsn = segment.first_lsn;
  header.last_lsn = segment.last_lsn;
  header.segment_count = 1;
  header.volume_count = static_cast<uint32_t>(volumes.size());
  header.page_count = fences.size();
  header.pages_offset = run_pages_offset(header);
  header.file_bytes = header.pages_offset + pages.size();
  std::vector<std::byte> tables;
  append<RunSegment>(&tables, {&indexed, 1});
  append<RunVolume>(&tables, volumes);
  append<RunFence>(&tables, fences);
  header.tables_crc32c = crc32c(tables.data(), tables.size());
  header.header_crc32c = crc32c(&header, offsetof(RunHeader, header_crc32c));

  std::vector<std::byte> head;
  head.reserve(header.pages_offset);
  append<RunHeader>(&head, {&header, 1});
  append<std::byte>(&head, tables);
  head.resize(header.pages_offset);
  return publish(run_path, head, pages);
}

}  // namespace afterimage
