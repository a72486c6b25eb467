#include "device/base_checksums.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "device/block_device.h"
#include "journal/frame.h"
#include "journal/journal_file.h"
#include "journal/segment_index.h"
#include "os/crc32c.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

constexpr uint16_t kSumsVersion = 1;

Error write_error(const std::string& what, Errno error) {
  return system_error(error == ENOSPC || error == EDQUOT ? "JOURNAL_FULL" : "JOURNAL_IO", what, error);
}

uint64_t page_offset(uint64_t number) { return (number + 1) * kSumPageBytes; }

/// Whole, or up to the end of the file: the rest becomes zero.
Errno read_padded(int fd, void* into, uint64_t bytes, uint64_t offset) {
  uint64_t got = 0;
  if (const Errno error = read_at(fd, into, bytes, offset, &got)) return error;
  std::memset(static_cast<std::byte*>(into) + got, 0, bytes - got);
  return 0;
}

bool is_readable(const BaseSumsHeader& header) {
  return std::memcmp(header.magic, kSumsMagic, sizeof(kSumsMagic)) == 0 &&
         crc32c(&header, offsetof(BaseSumsHeader, header_crc32c)) == header.header_crc32c &&
         header.version == kSumsVersion && header.header_bytes == sizeof(BaseSumsHeader) &&
         (header.flags & kFlagsCritical) == 0 && header.block_bytes == kBaseBlockBytes;
}

}  // namespace

uint32_t sum_of(const std::byte* block) {
  const uint32_t crc = crc32c(block, kBaseBlockBytes);
  return crc <= kSumBad ? crc + 2 : crc;
}

std::string BaseChecksums::path_of(const std::string& base_path) {
  const std::string suffix = ".img";
  const bool has_suffix = base_path.size() > suffix.size() && base_path.ends_with(suffix);
  return (has_suffix ? base_path.substr(0, base_path.size() - suffix.size()) : base_path) + ".sum";
}

Result<std::unique_ptr<BaseChecksums>> BaseChecksums::open(const std::string& base_path) {
  std::unique_ptr<BaseChecksums> sums(new BaseChecksums);
  sums->path_ = path_of(base_path);
  sums->fd_.reset(::open(sums->path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!sums->fd_ && errno == ENOENT) return std::unique_ptr<BaseChecksums>();
  if (!sums->fd_) return open_error(sums->path_, errno);
  BaseSumsHeader header{};
  if (const Errno error = read_padded(sums->fd_.get(), &header, sizeof header, 0); error != 0 && error != EIO)
    return system_error("IO_ERROR", "read " + sums->path_, error);
  if (!is_readable(header)) sums.reset();
  return sums;
}

Result<std::unique_ptr<BaseChecksums>> BaseChecksums::create(const std::string& base_path) {
  std::unique_ptr<BaseChecksums> sums(new BaseChecksums);
  const std::string& path = sums->path_ = path_of(base_path);
  sums->fd_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!sums->fd_) return write_error("open " + path, errno);
  const int fd = sums->fd_.get();
  BaseSumsHeader header{};
  if (read_padded(fd, &header, sizeof header, 0) == 0 && is_readable(header)) return sums;
  // Its entries first: with a new header they would be believed.
  if (::ftruncate(fd, 0) != 0) return write_error("empty " + path, errno);
  if (const Errno error = JournalFile::system().fsync(fd)) return write_error("sync " + path, error);
  header = {};
  std::memcpy(header.magic, kSumsMagic, sizeof(kSumsMagic));
  header.version = kSumsVersion;
  header.header_bytes = sizeof(BaseSumsHeader);
  header.block_bytes = kBaseBlockBytes;
  header.header_crc32c = crc32c(&header, offsetof(BaseSumsHeader, header_crc32c));
  if (const Errno error = write_at(fd, &header, sizeof header, 0)) return write_error("write " + path, error);
  if (const Errno error = JournalFile::system().fsync(fd)) return write_error("sync " + path, error);
  const std::string directory = path.substr(0, path.find_last_of('/') + 1);
  const Fd parent(::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return write_error("open " + directory, errno);
  if (const Errno error = JournalFile::system().fsync(parent.get()))
    return write_error("sync " + directory, error);
  return sums;
}

Result<BaseChecksums::Page> BaseChecksums::read_page(uint64_t number, BaseSumsPage* page) const {
  const Errno error = read_padded(fd_.get(), page, sizeof *page, page_offset(number));
  if (error != 0 && error != EIO) return system_error("IO_ERROR", "read " + path_, error);
  const bool is_empty = error == 0 && is_zero(reinterpret_cast<const std::byte*>(page), sizeof *page);
  const bool is_whole = error == 0 && page->number == static_cast<uint32_t>(number) &&
                        crc32c(page, offsetof(BaseSumsPage, crc32c)) == page->crc32c;
  if (!is_whole) *page = {};
  return is_whole ? Page::kWhole : is_empty ? Page::kEmpty : Page::kBad;
}

Outcome BaseChecksums::write_page(uint64_t number, BaseSumsPage* page) {
  page->number = static_cast<uint32_t>(number);
  page->crc32c = crc32c(page, offsetof(BaseSumsPage, crc32c));
  if (const Errno error = write_at(fd_.get(), page, sizeof *page, page_offset(number)))
    return write_error("write " + path_, error);
  return Nothing{};
}

Result<uint64_t> BaseChecksums::get(uint64_t first_block, std::span<uint32_t> sums) const {
  uint64_t pages_bad = 0;
  while (!sums.empty()) {
    const uint64_t within = first_block % kSumsPerPage;
    const size_t count = std::min<size_t>(sums.size(), kSumsPerPage - within);
    BaseSumsPage page;
    const auto read = read_page(first_block / kSumsPerPage, &page);
    if (!read.ok()) return read.error();
    if (*read == Page::kBad) pages_bad += 1;
    std::copy_n(page.sums + within, count, sums.begin());
    first_block += count;
    sums = sums.subspan(count);
  }
  return pages_bad;
}

Outcome BaseChecksums::put(uint64_t first_block, std::span<const uint32_t> sums) {
  while (!sums.empty()) {
    const uint64_t number = first_block / kSumsPerPage;
    const uint64_t within = first_block % kSumsPerPage;
    const size_t count = std::min<size_t>(sums.size(), kSumsPerPage - within);
    BaseSumsPage page;
    // A damaged page starts anew: what it said of its other blocks is lost either way.
    if (const auto read = read_page(number, &page); !read.ok()) return read.error();
    std::copy_n(sums.begin(), count, page.sums + within);
    if (Outcome written = write_page(number, &page); !written.ok()) return written;
    first_block += count;
    sums = sums.subspan(count);
  }
  return Nothing{};
}

Outcome BaseChecksums::sync() {
  if (const Errno error = JournalFile::system().fdatasync(fd_.get()))
    return write_error("sync " + path_, error);
  return Nothing{};
}

}  // namespace afterimage
