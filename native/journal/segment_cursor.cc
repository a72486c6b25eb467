#include "journal/segment_cursor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "device/block_device.h"
#include "os/file_error.h"

namespace afterimage {
namespace {

/// Most frames' headers and tables fit: one system call per frame.
constexpr uint64_t kReadAheadBytes = 16u << 10;

/// Up to `bytes`; less only at the end of the file.
Errno read_at(int fd, std::byte* into, uint64_t bytes, uint64_t offset, uint64_t* got) {
  *got = 0;
  while (*got < bytes) {
    const ssize_t n = ::pread(fd, into + *got, bytes - *got, static_cast<off_t>(offset + *got));
    if (n == 0) break;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    *got += static_cast<uint64_t>(n);
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<SegmentCursor>> SegmentCursor::open(const std::string& path, Depth depth,
                                                           uint64_t bytes_max) {
  std::unique_ptr<SegmentCursor> cursor(new SegmentCursor);
  cursor->path_ = path;
  cursor->depth_ = depth;
  cursor->fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!cursor->fd_) return file_error("open " + path, errno);
  struct stat status {};
  if (::fstat(cursor->fd_.get(), &status) != 0) return system_error("IO_ERROR", "stat " + path, errno);
  cursor->file_bytes_ = static_cast<uint64_t>(status.st_size);
  cursor->bytes_ = std::min({cursor->file_bytes_, bytes_max, kSegmentBytesMax});

  uint64_t got = 0;
  if (const Errno error = read_at(cursor->fd_.get(), reinterpret_cast<std::byte*>(&cursor->header_),
                                  sizeof(SegmentHeader), 0, &got))
    return system_error("IO_ERROR", "read " + path, error);
  if (got < sizeof(SegmentHeader)) return Error{"SEGMENT_CORRUPT", path + ": shorter than its header"};
  const char* code = nullptr;
  if (const char* fault = segment_header_fault(cursor->header_, &code))
    return Error{code, path + ": segment header: " + fault};
  cursor->next_lsn_ = cursor->header_.first_lsn;
  cursor->link_ = cursor->header_.link;
  cursor->buffer_.resize(depth == Depth::kPayload ? kFrameBytesMax : kReadAheadBytes);
  return cursor;
}

Outcome SegmentCursor::fill(uint64_t bytes) {
  if (bytes <= filled_) return Nothing{};
  if (buffer_.size() < bytes) buffer_.resize(bytes);
  uint64_t got = 0;
  if (const Errno error =
          read_at(fd_.get(), buffer_.data() + filled_, bytes - filled_, position_ + filled_, &got))
    return system_error("IO_ERROR", "read " + path_, error);
  filled_ += got;
  return Nothing{};
}

bool SegmentCursor::stop(std::string reason) {
  stop_reason_ = std::move(reason);
  frame_ = FrameView{};
  bytes_ = position_;  // next() stays at the end
  return false;
}

Result<bool> SegmentCursor::next() {
  if (position_ >= bytes_) return stop(stop_reason_);
  const uint64_t left = bytes_ - position_;
  filled_ = 0;
  const uint64_t ahead = depth_ == Depth::kPayload ? kFrameBytesMax : kReadAheadBytes;
  if (Outcome read = fill(std::min(left, ahead)); !read.ok()) return read.error();
  const uint64_t head = std::min<uint64_t>(filled_, sizeof(FrameHeader));
  if (is_zero(buffer_.data(), head)) return stop("");

  const auto parsed = parse_frame_header({buffer_.data(), head});
  if (!parsed.ok()) return stop(std::string(parsed.error().code) + ": " + parsed.error().message);
  const FrameHeader& header = *parsed;
  if (header.frame_bytes > left) return stop("FRAME_TRUNCATED: the file ends within the frame");
  if (header.group != header_.group || header.member != header_.member)
    return stop("FRAME_FOREIGN: a frame of another member");
  if (header.generation != header_.generation) return stop("FRAME_GENERATION: a frame of another generation");
  if (header.epoch < epoch_) return stop("FRAME_FENCED: the epoch falls");
  if (header.first_lsn != next_lsn_)
    return stop(header.first_lsn < next_lsn_ ? "FRAME_REPEATED: the LSN falls"
                                             : "FRAME_GAP: LSNs are missing");
  if (header.link != link_) return stop("FRAME_LINK: the frame does not follow the one before it");

  const uint64_t tables = sizeof(FrameHeader) + header.record_count * sizeof(RecordEntry) +
                          header.chunk_count * sizeof(ChunkEntry);
  const uint64_t wanted = depth_ == Depth::kPayload ? header.frame_bytes : tables;
  if (Outcome read = fill(wanted); !read.ok()) return read.error();
  if (filled_ < wanted) return stop("FRAME_TRUNCATED: the file became shorter");
  const auto view = depth_ == Depth::kPayload ? verify_frame({buffer_.data(), wanted})
                                              : parse_frame_tables({buffer_.data(), wanted});
  if (!view.ok()) return stop(std::string(view.error().code) + ": " + view.error().message);

  frame_ = *view;
  frame_offset_ = position_;
  position_ += header.frame_bytes;
  next_lsn_ = header.last_lsn + 1;
  link_ = header.header_crc32c;
  epoch_ = header.epoch;
  return true;
}

}  // namespace afterimage
