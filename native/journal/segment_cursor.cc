#include "journal/segment_cursor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "device/block_device.h"
#include "os/file_error.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

/// Most frames' headers and tables fit: one system call per frame.
constexpr uint64_t kReadAheadBytes = 16u << 10;

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
  if (depth == Depth::kPayload) {
    // After a failed sync the page cache holds, as clean, what the disk does not: the disk is to be asked. If
    // this one fails, that is no damage: what is clean by then is dropped and read anew, and checksums tell.
    static_cast<void>(::fdatasync(cursor->fd_.get()));
    ::posix_fadvise(cursor->fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
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
  if (begin_ + bytes > buffer_.size()) {
    std::memmove(buffer_.data(), unread(), filled_);
    begin_ = 0;
    if (buffer_.size() < bytes) buffer_.resize(bytes);
  }
  // As much as there is room for: small frames are read many at a time.
  const uint64_t room = std::min(buffer_.size() - begin_, bytes_ - position_);
  uint64_t got = 0;
  if (room > filled_)
    if (const Errno error = read_at(fd_.get(), unread() + filled_, room - filled_, position_ + filled_, &got))
      return system_error("IO_ERROR", "read " + path_, error);
  filled_ += got;
  return Nothing{};
}

void SegmentCursor::consume(uint64_t bytes) {
  const bool is_left = bytes < filled_;
  begin_ = is_left ? begin_ + bytes : 0;
  filled_ = is_left ? filled_ - bytes : 0;
}

bool SegmentCursor::stop(std::string reason) {
  stop_reason_ = std::move(reason);
  frame_ = FrameView{};
  bytes_ = position_;  // next() stays at the end
  return false;
}

Result<bool> SegmentCursor::next() {
  if (position_ >= bytes_) return stop(stop_reason_);
  consume(std::exchange(frame_bytes_, 0));
  const uint64_t left = bytes_ - position_;
  if (Outcome read = fill(std::min<uint64_t>(left, sizeof(FrameHeader))); !read.ok()) return read.error();
  const uint64_t head = std::min<uint64_t>(filled_, sizeof(FrameHeader));
  if (is_zero(unread(), head)) return stop("");

  const auto parsed = parse_frame_header({unread(), head});
  if (!parsed.ok() && std::string_view(parsed.error().code) == "FRAME_VERSION")
    return Error{"SEGMENT_VERSION",
                 path_ + ": at byte " + std::to_string(position_) + ": " + parsed.error().message};
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
  const auto view =
      depth_ == Depth::kPayload ? verify_frame({unread(), wanted}) : parse_frame_tables({unread(), wanted});
  if (!view.ok()) return stop(std::string(view.error().code) + ": " + view.error().message);

  frame_ = *view;
  frame_bytes_ = header.frame_bytes;
  frame_offset_ = position_;
  position_ += header.frame_bytes;
  next_lsn_ = header.last_lsn + 1;
  link_ = header.header_crc32c;
  epoch_ = header.epoch;
  return true;
}

}  // namespace afterimage
