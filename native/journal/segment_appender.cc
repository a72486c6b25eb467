#include "journal/segment_appender.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "os/assert.h"

namespace afterimage {
namespace {

/// A sealed segment is known by ending right behind its last frame, so an open one never does.
constexpr uint64_t kUnusedBytesMin = 8;

std::string directory_of(const std::string& path) { return path.substr(0, path.find_last_of('/')); }

}  // namespace

Error journal_error(const std::string& what, Errno error) {
  return system_error(error == ENOSPC || error == EDQUOT ? "JOURNAL_FULL" : "JOURNAL_IO", what, error);
}

Result<std::unique_ptr<SegmentAppender>> SegmentAppender::create(JournalFile* file,
                                                                 const std::string& directory,
                                                                 const SegmentHeader& header,
                                                                 const SegmentRoom& room) {
  const std::string path = segment_path(directory, header.first_lsn);
  const auto left_behind = scan_segment(path, false);
  const bool is_garbage = left_behind.ok() ? left_behind->info.frames == 0
                                           : std::string_view(left_behind.error().code) == "SEGMENT_CORRUPT";
  if (is_garbage) ::unlink(path.c_str());

  std::unique_ptr<SegmentAppender> appender(new SegmentAppender(file, room));
  appender->directory_.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!appender->directory_) return journal_error("open " + directory, errno);
  appender->fd_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!appender->fd_) return journal_error("create " + path, errno);
  SegmentInfo& info = appender->info_;
  info.path = path;
  info.generation = header.generation;
  info.first_lsn = header.first_lsn;
  info.last_lsn = header.first_lsn - 1;
  info.link = header.link;
  info.bytes = kSegmentHeaderBytes;

  const auto failed = [&](const char* call, Errno error) {
    ::unlink(path.c_str());
    return journal_error(call + path, error);
  };
  if (const Errno error = appender->preallocate()) return failed("allocate ", error);
  const iovec piece{.iov_base = const_cast<SegmentHeader*>(&header), .iov_len = sizeof(header)};
  if (const Errno error = BlockWriter::open(file, appender->fd_.get(), 0, &appender->writer_))
    return failed("write ", error);
  if (const Errno error = appender->writer_->append({&piece, 1})) return failed("write ", error);
  if (const Errno error = file->fsync(appender->fd_.get())) return failed("sync ", error);
#ifndef AFTERIMAGE_SABOTAGE_SEGMENT_NAME_UNSYNCED  // breaks R4: a segment whose name power loss takes away
  if (const Errno error = file->fsync(appender->directory_.get())) return failed("sync directory of ", error);
#endif
  return appender;
}

Result<std::unique_ptr<SegmentAppender>> SegmentAppender::reopen(JournalFile* file, const SegmentInfo& tail,
                                                                 const SegmentRoom& room) {
  std::unique_ptr<SegmentAppender> appender(new SegmentAppender(file, room));
  appender->info_ = tail;
  appender->info_.sealed = false;
  const std::string directory = directory_of(tail.path);
  appender->directory_.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!appender->directory_) return journal_error("open " + directory, errno);
  appender->fd_.reset(::open(tail.path.c_str(), O_RDWR | O_CLOEXEC));
  if (!appender->fd_) return journal_error("open " + tail.path, errno);
  if (const Errno error = file->ftruncate(appender->fd_.get(), tail.bytes))
    return system_error("JOURNAL_IO", "cut " + tail.path, error);
  if (const Errno error = file->fsync(appender->fd_.get()))
    return system_error("JOURNAL_IO", "sync " + tail.path, error);
  if (const Errno error = file->fsync(appender->directory_.get()))
    return system_error("JOURNAL_IO", "sync " + directory, error);
  if (const Errno error = appender->preallocate()) {
    // A file system that ran out may have grown the file by all that it had left.
    if (Outcome sealed = appender->seal(); !sealed.ok()) return sealed.error();
    return journal_error("allocate " + tail.path, error);
  }
  if (const Errno error = BlockWriter::open(file, appender->fd_.get(), tail.bytes, &appender->writer_))
    return system_error("JOURNAL_IO", "read " + tail.path, error);
  return appender;
}

bool SegmentAppender::fits(uint64_t frame_bytes) const {
  return info_.bytes + frame_bytes + kUnusedBytesMin <= room_.segment_bytes;
}

Errno SegmentAppender::preallocate() {
  const uint64_t bytes = std::max(room_.segment_bytes, info_.bytes + kUnusedBytesMin);
  if (room_.headroom_bytes > 0) {
    struct statvfs found {};
    if (::fstatvfs(fd_.get(), &found) != 0) return errno;
    const uint64_t free_bytes = uint64_t{found.f_bavail} * found.f_frsize;
    if (free_bytes < room_.headroom_bytes + (bytes - info_.bytes)) return ENOSPC;
  }
  return file_->fallocate(fd_.get(), 0, bytes);
}

Outcome SegmentAppender::append(std::span<const FrameHeader> frames, std::span<const iovec> pieces) {
  if (const Errno error = writer_->append(pieces)) return journal_error("write " + info_.path, error);
  // After a failed sync the kernel counts the pages as clean: a second one would succeed and mean nothing. So
  // no error of it is a mere "full".
  if (const Errno error = file_->fdatasync(fd_.get()))
    return system_error("JOURNAL_IO", "sync " + info_.path, error);
  for (const FrameHeader& frame : frames) extend(&info_, frame);
  AFTERIMAGE_ASSERT(writer_->end() == info_.bytes, "what the frames say of their length");
  return Nothing{};
}

Outcome SegmentAppender::seal() {
  if (info_.frames == 0) {
    if (::unlink(info_.path.c_str()) != 0) return system_error("JOURNAL_IO", "remove " + info_.path, errno);
    return Nothing{};
  }
  if (const Errno error = file_->ftruncate(fd_.get(), info_.bytes))
    return system_error("JOURNAL_IO", "cut " + info_.path, error);
  if (const Errno error = file_->fdatasync(fd_.get()))
    return system_error("JOURNAL_IO", "sync " + info_.path, error);
  info_.sealed = true;
  return Nothing{};
}

void SegmentAppender::abandon() {
  if (info_.frames == 0)
    ::unlink(info_.path.c_str());
  else
    file_->ftruncate(fd_.get(), info_.bytes);
}

}  // namespace afterimage
