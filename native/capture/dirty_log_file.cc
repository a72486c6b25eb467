#include "capture/dirty_log_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include "os/assert.h"
#include "os/crc32c.h"
#include "os/file_error.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

constexpr uint64_t kHeaderMagic = 0x31'59'54'52'49'44'46'41;  // "AFDIRTY1"
constexpr uint32_t kSlotMagic = 0x50'44'46'41;                // "AFDP"

struct HeaderBytes {
  uint64_t magic;
  uint32_t version;
  uint32_t crc;  // of the slot with this field 0
  uint64_t id;
  uint8_t volume[16];
  uint64_t volume_bytes;
  uint32_t extent_bytes;
  uint32_t pages;
};
static_assert(sizeof(HeaderBytes) == 56);

struct SlotBytes {
  uint32_t magic;
  uint32_t crc;  // of the slot with this field 0
  uint64_t id;
  uint64_t sequence;
  uint32_t page;
  uint32_t reserved;
  uint64_t basis_generation;
  uint64_t basis_lsn;
  uint8_t reserved_end[16];
};
static_assert(sizeof(SlotBytes) == kDirtySlotHeaderBytes);

template <typename Bytes>
uint32_t checksum(const std::byte* slot) {
  Bytes head;
  std::memcpy(&head, slot, sizeof head);
  head.crc = 0;
  return crc32c(slot + sizeof head, kDirtySlotBytes - sizeof head, crc32c(&head, sizeof head));
}

template <typename Bytes>
void seal(std::byte* slot, Bytes head) {
  head.crc = 0;
  std::memcpy(slot, &head, sizeof head);
  head.crc = checksum<Bytes>(slot);
  std::memcpy(slot, &head, sizeof head);
}

uint64_t turn_offset(uint32_t index, uint64_t sequence) {
  return kDirtyHeadersBytes + index * kDirtyPageBytes + sequence % 2 * kDirtyTurnBytes;
}

Error untrusted(const std::string& path, const std::string& why) {
  return Error{"STATE_INVALID", path + ": " + why};
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

Errno read_fully(int fd, std::byte* into, uint64_t length, uint64_t offset) {
  uint64_t got = 0;
  if (const Errno error = read_at(fd, into, length, offset, &got)) return error;
  return got < length ? EIO : 0;
}

Errno sync_directory(const std::string& path, JournalFile& file) {
  const Fd directory(::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return directory ? file.fsync(directory.get()) : errno;
}

/// Never what another log is still writing, whose disk took long.
Fd create_file(const std::string& path) {
  ::unlink(path.c_str());
  return Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
}

/// That in which the file is to lie.
Errno make_directory(const std::string& path, JournalFile& file) {
  std::string directory = directory_of(path);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return errno;
  directory.pop_back();
  return sync_directory(directory, file);
}

}  // namespace

void grow_pages(std::vector<DirtyPage>* pages, uint64_t before, uint64_t after) {
  pages->resize(dirty_pages(after));
  for (uint64_t extent = before / kDirtyExtentBytes; extent < dirty_extents(after); ++extent) {
    const uint64_t bit = extent % kDirtyPageExtents;
    (*pages)[extent / kDirtyPageExtents].bits[bit / 8] |= static_cast<std::byte>(1u << (bit % 8));
  }
}

DirtyLogFile::DirtyLogFile(std::string path, const Identity& identity, JournalFile& file, Fd fd)
    : path_(std::move(path)), identity_(identity), file_(file), fd_(std::move(fd)) {}

Result<std::unique_ptr<DirtyLogFile>> DirtyLogFile::open(const std::string& path, const Identity& identity,
                                                         JournalFile& file) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    if (errno == ENOENT) return untrusted(path, "there is none");
    return file_error("open " + path, errno);
  }
  std::unique_ptr<DirtyLogFile> log(new DirtyLogFile(path, identity, file, std::move(fd)));
  // What a process that was killed had written may be in the page cache only: it must not be believed and
  // lost.
  if (const Errno error = file.fdatasync(log->fd_.get())) return file_error("fdatasync " + path, error);
  if (const Outcome read = log->read_header(); !read.ok()) return read.error();
  if (const Outcome read = log->read_pages(); !read.ok()) return read.error();
  if (log->identity_.volume_bytes < identity.volume_bytes)
    return log->grown(identity.volume_bytes, log->take_pages());
  return log;
}

Result<std::unique_ptr<DirtyLogFile>> DirtyLogFile::create(const std::string& path, const Identity& identity,
                                                           JournalFile& file) {
  uint64_t id = 0;
  do
    if (::getrandom(&id, sizeof id, 0) != sizeof id) return file_error("getrandom", errno);
  while ((id &= INT64_MAX) == 0);  // the receiver's catalog has signed numbers
  std::vector<DirtyPage> pages;
  grow_pages(&pages, 0, identity.volume_bytes);
  return make(path, identity, file, id, std::move(pages));
}

Result<std::unique_ptr<DirtyLogFile>> DirtyLogFile::grown(uint64_t volume_bytes,
                                                          std::vector<DirtyPage> pages) const {
  grow_pages(&pages, identity_.volume_bytes, volume_bytes);
  return make(path_, {identity_.volume, volume_bytes}, file_, id_, std::move(pages));
}

Result<std::unique_ptr<DirtyLogFile>> DirtyLogFile::make(const std::string& path, const Identity& identity,
                                                         JournalFile& file, uint64_t id,
                                                         std::vector<DirtyPage> pages) {
  AFTERIMAGE_ASSERT(identity.volume_bytes <= kDirtyVolumeBytesMax, "the bounds of the log");
  const std::string made = path + ".new";
  Fd fd = create_file(made);
  if (!fd && errno == ENOENT && make_directory(path, file) == 0) fd = create_file(made);
  if (!fd) return file_error("create " + made, errno);
  std::unique_ptr<DirtyLogFile> log(new DirtyLogFile(path, identity, file, std::move(fd)));
  log->id_ = id;
  log->pages_ = std::move(pages);
  Errno error = 0;
  for (uint32_t index = 0; index < log->pages_.size() && error == 0; ++index) {
    for (int turn = 0; turn < 2 && error == 0; ++turn) {
      ++log->pages_[index].sequence;
      error = log->write(index, log->pages_[index]);
    }
  }
  for (uint64_t copy = 0; copy < kDirtyCopies && error == 0; ++copy) {
    log->write_header(log->slot_.data());
    error = log->write_bytes(log->slot_.data(), kDirtySlotBytes, copy * kDirtySlotBytes);
  }
  if (error == 0) error = file.fsync(log->fd_.get());
  if (error == 0 && ::rename(made.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) error = sync_directory(path, file);
  if (error != 0) {
    ::unlink(made.c_str());
    return file_error("write " + path, error);
  }
  return log;
}

Outcome DirtyLogFile::read_header() {
  struct stat about {};
  if (::fstat(fd_.get(), &about) != 0) return file_error("fstat " + path_, errno);
  std::string why = "it is damaged";
  for (uint64_t copy = 0; copy < kDirtyCopies; ++copy) {
    if (about.st_size < static_cast<off_t>((copy + 1) * kDirtySlotBytes)) break;
    if (const Errno error = read_fully(fd_.get(), slot_.data(), kDirtySlotBytes, copy * kDirtySlotBytes)) {
      why = "its header cannot be read: " + std::string(std::strerror(error));
      continue;
    }
    HeaderBytes head;
    std::memcpy(&head, slot_.data(), sizeof head);
    if (head.magic != kHeaderMagic || head.crc != checksum<HeaderBytes>(slot_.data())) continue;
    if (head.version != kDirtyLogVersion || head.extent_bytes != kDirtyExtentBytes || head.id == 0)
      return untrusted(path_, "it is of version " + std::to_string(head.version));
    if (std::memcmp(head.volume, identity_.volume.data(), sizeof head.volume) != 0)
      return untrusted(path_, "it is another volume's");
    const uint32_t pages = dirty_pages(head.volume_bytes);
    if (head.volume_bytes == 0 || head.volume_bytes > identity_.volume_bytes || head.pages != pages)
      return untrusted(path_, "its volume had " + std::to_string(head.volume_bytes) + " bytes");
    const uint64_t bytes = kDirtyHeadersBytes + pages * kDirtyPageBytes;
    if (about.st_size != static_cast<off_t>(bytes))
      return untrusted(path_,
                       "it has " + std::to_string(about.st_size) + " bytes, not " + std::to_string(bytes));
    id_ = head.id;
    identity_.volume_bytes = head.volume_bytes;
    return Nothing{};
  }
  return untrusted(path_, why);
}

/// Of each page the newest turn that is whole.
Outcome DirtyLogFile::read_pages() {
  const uint32_t pages = dirty_pages(identity_.volume_bytes);
  pages_.resize(pages);
  bool is_repaired = false;
  std::vector<std::byte> slots(kDirtyPageBytes);
  for (uint32_t index = 0; index < pages; ++index) {
    if (const Errno error = read_fully(fd_.get(), slots.data(), kDirtyPageBytes, turn_offset(index, 0)))
      return untrusted(path_, "it cannot be read: " + std::string(std::strerror(error)));
    std::array<std::array<DirtyPage, kDirtyCopies>, 2> found;  // by turn; sequence 0: not whole
    uint64_t sequence_max = 0;
    for (uint64_t turn = 0; turn < 2; ++turn) {
      for (uint64_t copy = 0; copy < kDirtyCopies; ++copy) {
        DirtyPage& page = found[turn][copy];
        const std::byte* const slot = slots.data() + turn * kDirtyTurnBytes + copy * kDirtySlotBytes;
        if (!read_slot(slot, index, &page) || page.sequence % 2 != turn) page.sequence = 0;
        sequence_max = std::max(sequence_max, page.sequence);
      }
    }
    const auto& last = found[sequence_max % 2];
    const auto& before = found[1 - sequence_max % 2];
    const bool is_last_whole = last[0].sequence == sequence_max && last[1].sequence == sequence_max;
    // While one turn is written, both copies of the other are whole. Where that cannot have been so, a slot
    // has rotted, and what was the newest is not known.
    bool is_sound = sequence_max > 0;
    bool is_before_whole = true;
    for (const DirtyPage& page : last)
      is_sound &= page.sequence == 0 || page.sequence == sequence_max || page.sequence + 2 == sequence_max;
    for (const DirtyPage& page : before) {
      is_sound &= page.sequence == 0 || page.sequence + 1 == sequence_max;
      is_before_whole &= page.sequence != 0;
    }
    if (!is_sound || (!is_last_whole && !is_before_whole))
      return untrusted(path_, "page " + std::to_string(index) + " is damaged");
    const uint64_t whole = last[0].sequence == sequence_max ? 0 : 1;
    pages_[index] = last[whole];
    if (is_last_whole) continue;
    // The other copy, before the turn that now is the one before is written over.
    write_slot(slot_.data(), index, pages_[index]);
    const uint64_t at = turn_offset(index, sequence_max) + (1 - whole) * kDirtySlotBytes;
    if (const Errno error = write_bytes(slot_.data(), kDirtySlotBytes, at))
      return file_error("write " + path_, error);
    is_repaired = true;
  }
  if (is_repaired)
    if (const Errno error = sync()) return file_error("fdatasync " + path_, error);
  return Nothing{};
}

Errno DirtyLogFile::write(uint32_t index, const DirtyPage& page) {
  write_slot(slot_.data(), index, page);
  for (uint64_t copy = 0; copy < kDirtyCopies; ++copy) {
    const uint64_t at = turn_offset(index, page.sequence) + copy * kDirtySlotBytes;
    if (const Errno error = write_bytes(slot_.data(), kDirtySlotBytes, at)) return error;
  }
  return 0;
}

Errno DirtyLogFile::sync() { return file_.fdatasync(fd_.get()); }

/// Either is enough: no header, or no file. But the header is that of the file at its path only as long as no
/// other has taken its place, perhaps by a make() that failed after that.
Errno DirtyLogFile::invalidate() {
  struct stat own {};
  struct stat named {};
  const bool is_named = ::fstat(fd_.get(), &own) == 0 && ::lstat(path_.c_str(), &named) == 0 &&
                        own.st_dev == named.st_dev && own.st_ino == named.st_ino;
  std::ranges::fill(slot_, std::byte{0});
  Errno wiped = 0;
  for (uint64_t copy = 0; copy < kDirtyCopies; ++copy)
    if (const Errno error = write_bytes(slot_.data(), kDirtySlotBytes, copy * kDirtySlotBytes)) wiped = error;
  if (const Errno error = file_.fdatasync(fd_.get())) wiped = error;
  const Errno discarded = discard(path_, file_);
  return is_named && wiped == 0 ? 0 : discarded;
}

Errno DirtyLogFile::discard(const std::string& path, JournalFile& file) {
  const auto is_none = [](Errno error) { return error == ENOENT || error == ENOTDIR; };
  if (::unlink(path.c_str()) != 0 && !is_none(errno)) return errno;
  // Also where it was gone already: perhaps since an attempt whose sync failed.
  const Errno error = sync_directory(path, file);
  return is_none(error) ? 0 : error;
}

Errno DirtyLogFile::write_bytes(const std::byte* bytes, uint64_t length, uint64_t offset) {
  for (uint64_t done = 0; done < length;) {
    const iovec piece{const_cast<std::byte*>(bytes + done), length - done};
    uint64_t written = 0;
    if (const Errno error = file_.pwritev(fd_.get(), &piece, 1, offset + done, &written)) return error;
    if (written == 0) return EIO;
    done += written;
  }
  return 0;
}

void DirtyLogFile::write_header(std::byte* slot) const {
  std::memset(slot, 0, kDirtySlotBytes);
  HeaderBytes head{};
  head.magic = kHeaderMagic;
  head.version = kDirtyLogVersion;
  head.id = id_;
  std::memcpy(head.volume, identity_.volume.data(), sizeof head.volume);
  head.volume_bytes = identity_.volume_bytes;
  head.extent_bytes = kDirtyExtentBytes;
  head.pages = dirty_pages(identity_.volume_bytes);
  seal(slot, head);
}

bool DirtyLogFile::read_slot(const std::byte* slot, uint32_t index, DirtyPage* page) const {
  SlotBytes head;
  std::memcpy(&head, slot, sizeof head);
  if (head.magic != kSlotMagic || head.id != id_ || head.page != index || head.sequence == 0) return false;
  if (head.crc != checksum<SlotBytes>(slot)) return false;
  page->sequence = head.sequence;
  page->basis_generation = head.basis_generation;
  page->basis_lsn = head.basis_lsn;
  std::memcpy(page->bits.data(), slot + sizeof head, page->bits.size());
  return true;
}

void DirtyLogFile::write_slot(std::byte* slot, uint32_t index, const DirtyPage& page) const {
  std::memcpy(slot + sizeof(SlotBytes), page.bits.data(), page.bits.size());
  SlotBytes head{};
  head.magic = kSlotMagic;
  head.id = id_;
  head.sequence = page.sequence;
  head.page = index;
  head.basis_generation = page.basis_generation;
  head.basis_lsn = page.basis_lsn;
  seal(slot, head);
}

}  // namespace afterimage
