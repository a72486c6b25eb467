#include "capture/spool_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "os/crc32c.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

constexpr char kFileMagic[8] = {'A', 'F', 'T', 'S', 'P', 'O', 'O', 'L'};
constexpr char kBatchMagic[8] = {'A', 'F', 'T', 'B', 'A', 'T', 'C', 'H'};
constexpr uint32_t kCriticalFlags = 0xffff0000;
static_assert(kSpoolBatchBytesMax >= sizeof(RingRecord) + kRecordBytesMax, "the longest record fits");
static_assert(sizeof(SpoolFileHeader) % alignof(RingRecord) == 0 &&
              sizeof(SpoolBatchHeader) % alignof(RingRecord) == 0);

template <typename Header>
uint32_t crc_of(const Header& header) {
  return crc32c(&header, offsetof(Header, header_crc32c));
}

Error failed(const std::string& what, Errno sys) {
  const bool is_full = sys == ENOSPC || sys == EDQUOT || sys == EFBIG;
  return system_error(is_full ? "SPOOL_FULL" : "SPOOL_IO", what, sys);
}

Error corrupt(const std::string& path, const std::string& what) {
  return Error{"SPOOL_CORRUPT", "spool file " + path + ": " + what};
}

/// All of them. Errors: SPOOL_IO; SPOOL_CORRUPT, `short_of` says what the file ends before.
Outcome read_whole(int fd, const std::string& path, void* into, uint64_t bytes, uint64_t offset,
                   const std::string& short_of) {
  uint64_t got = 0;
  if (const Errno error = read_at(fd, into, bytes, offset, &got))
    return system_error("SPOOL_IO", "read " + path, error);
  if (got < bytes) return corrupt(path, short_of);
  return Nothing{};
}

Errno allocate(int fd, uint64_t bytes, uint64_t headroom_bytes) {
  struct statvfs room {};
  if (fstatvfs(fd, &room) != 0) return errno;
  if (uint64_t{room.f_bavail} * room.f_frsize < bytes + headroom_bytes) return ENOSPC;
  // Where a file system cannot, it says that it is full when it is.
  return fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0 || errno == EOPNOTSUPP ? 0 : errno;
}

}  // namespace

Result<SpoolFileHeader> read_spool_header(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) return system_error("SPOOL_IO", "open " + path, errno);
  SpoolFileHeader header{};
  const Outcome read = read_whole(fd.get(), path, &header, sizeof header, 0, "it ends within its header");
  if (!read.ok()) return read.error();
  if (std::memcmp(header.magic, kFileMagic, sizeof kFileMagic) != 0) return corrupt(path, "it is none");
  if (header.header_crc32c != crc_of(header)) return corrupt(path, "the checksum of its header is wrong");
  if (header.version != kSpoolVersion || header.header_bytes != sizeof header ||
      (header.flags & kCriticalFlags) != 0)
    return corrupt(path, "version " + std::to_string(header.version));
  return header;
}

bool is_spool_file_blank(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  std::array<char, sizeof(SpoolFileHeader)> bytes{};
  uint64_t got = 0;
  if (!fd || read_at(fd.get(), bytes.data(), bytes.size(), 0, &got) != 0) return false;
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

// --- writer ---

Result<SpoolFileWriter> SpoolFileWriter::create(const std::string& path, const SpoolOwner& owner,
                                                const SpoolBatch& batch, uint64_t file_bytes,
                                                uint64_t headroom_bytes) {
  SpoolFileWriter writer;
  const std::string unfinished = path + kUnfinishedSuffix;
  writer.fd_ = Fd(::open(unfinished.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!writer.fd_) return failed("create " + unfinished, errno);
  SpoolFileHeader header{};
  std::memcpy(header.magic, kFileMagic, sizeof kFileMagic);
  header.version = kSpoolVersion;
  header.header_bytes = sizeof header;
  header.group = owner.group;
  header.member = owner.member;
  header.ring = owner.ring;
  header.generation = batch.generation;
  header.first_position = batch.position;
  header.first_lsn = batch.first_lsn;
  header.first_time_ns = batch.first_time_ns;
  header.header_crc32c = crc_of(header);
  Errno error = allocate(writer.fd_.get(), file_bytes, headroom_bytes);
  if (error == 0) error = write_at(writer.fd_.get(), &header, sizeof header, 0);
  if (error == 0 && ::rename(unfinished.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(unfinished.c_str());
    return failed("write " + unfinished, error);
  }
  writer.path_ = path;
  writer.ring_ = owner.ring;
  writer.generation_ = batch.generation;
  writer.file_bytes_ = file_bytes;
  writer.offset_ = sizeof header;
  return writer;
}

Outcome SpoolFileWriter::write(const SpoolBatch& batch) {
  const std::byte* const records = batch.bytes + sizeof(SpoolBatchHeader);
  const auto record_bytes = static_cast<uint32_t>(batch.end - batch.position);
  SpoolBatchHeader header{};
  std::memcpy(header.magic, kBatchMagic, sizeof kBatchMagic);
  header.ring = ring_;
  header.position = batch.position;
  header.first_lsn = batch.first_lsn;
  header.last_lsn = batch.last_lsn;
  header.record_bytes = record_bytes;
  header.record_count = batch.record_count;
  header.records_crc32c = crc32c(records, record_bytes);
  header.header_crc32c = crc_of(header);
  std::memcpy(batch.bytes, &header, sizeof header);
  if (const Errno error = write_at(fd_.get(), batch.bytes, batch.file_bytes(), offset_); error != 0)
    return failed("write " + path_, error);
  return Nothing{};
}

// --- reader ---

void SpoolFileReader::Free::operator()(std::byte* bytes) const { std::free(bytes); }

Outcome SpoolFileReader::open(const SpooledFile& file) {
  path_.clear();
  bytes_ = 0;
  fd_ = Fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_) return system_error("SPOOL_IO", "open " + file.path, errno);
  path_ = file.path;
  offset_ = sizeof(SpoolFileHeader);
  next_position_ = file.position;
  return Nothing{};
}

Result<SpoolBatchHeader> SpoolFileReader::read_header(const SpooledFile& file) {
  SpoolBatchHeader header{};
  const std::string place = "the batch at position " + std::to_string(next_position_);
  const Outcome read = read_whole(fd_.get(), path_, &header, sizeof header, offset_, place + " is missing");
  if (!read.ok()) return read.error();
  const bool is_right = std::memcmp(header.magic, kBatchMagic, sizeof kBatchMagic) == 0 &&
                        header.header_crc32c == crc_of(header) && header.ring == owner_.ring &&
                        header.position == next_position_ && header.record_bytes >= sizeof(RingRecord) &&
                        header.record_bytes <= kSpoolBatchBytesMax &&
                        header.record_bytes <= file.end - header.position &&
                        header.last_lsn - header.first_lsn + 1 == header.record_count;
  if (!is_right) return corrupt(path_, place + " is none");
  return header;
}

Outcome SpoolFileReader::read_batch(const SpooledFile& file, const SpoolBatchHeader& header) {
  if (!records_) {
    records_.reset(static_cast<std::byte*>(std::aligned_alloc(alignof(RingRecord), kSpoolBatchBytesMax)));
    if (!records_) throw std::bad_alloc();
  }
  bytes_ = 0;
  const std::string place = "the batch at position " + std::to_string(header.position);
  const uint64_t offset = offset_ + sizeof(SpoolBatchHeader);
  const Outcome read =
      read_whole(fd_.get(), path_, records_.get(), header.record_bytes, offset, place + " is cut off");
  if (!read.ok()) return read.error();
  if (crc32c(records_.get(), header.record_bytes) != header.records_crc32c)
    return corrupt(path_, place + " has another checksum");
  uint64_t lsn = header.first_lsn;
  for (uint64_t at = 0; at < header.record_bytes; ++lsn) {
    const auto& record = *reinterpret_cast<const RingRecord*>(records_.get() + at);
    if (!is_whole_record(record, header.record_bytes - at) || record.lsn != lsn ||
        record.generation != file.generation || lsn > header.last_lsn)
      return corrupt(path_, place + " holds what is no record");
    at += record.total_bytes;
  }
  position_ = header.position;
  bytes_ = header.record_bytes;
  return Nothing{};
}

Result<const RingRecord*> SpoolFileReader::at(const SpooledFile& file, uint64_t position) {
  const auto is_loaded = [&] { return bytes_ > 0 && position >= position_ && position - position_ < bytes_; };
  if (path_ != file.path || (position < next_position_ && !is_loaded()))
    if (const Outcome opened = open(file); !opened.ok()) return opened.error();
  while (!is_loaded()) {
    const auto header = read_header(file);
    if (!header.ok()) return header.error();
    if (position - header->position < header->record_bytes)
      if (const Outcome read = read_batch(file, *header); !read.ok()) return read.error();
    offset_ += sizeof *header + header->record_bytes;
    next_position_ += header->record_bytes;
  }
  const std::byte* const bytes = records_.get();
  uint64_t at = 0;
  while (at < position - position_) at += reinterpret_cast<const RingRecord*>(bytes + at)->total_bytes;
  if (at != position - position_)
    return corrupt(path_, "no record begins at position " + std::to_string(position));
  return reinterpret_cast<const RingRecord*>(bytes + at);
}

const RingRecord* SpoolFileReader::next(const RingRecord* record) const {
  const auto* const after = reinterpret_cast<const std::byte*>(record) + record->total_bytes;
  return after < records_.get() + bytes_ ? reinterpret_cast<const RingRecord*>(after) : nullptr;
}

Result<uint64_t> SpoolFileReader::last_lsn_before(const SpooledFile& file, uint64_t end) {
  if (const Outcome opened = open(file); !opened.ok()) return opened.error();
  for (;;) {
    const auto header = read_header(file);
    if (!header.ok()) return header.error();
    offset_ += sizeof *header + header->record_bytes;
    next_position_ += header->record_bytes;
    if (next_position_ == end) return header->last_lsn;
  }
}

}  // namespace afterimage
