// SegmentAppender: the one segment that grows. Knows what of it is durable, and after a failure cuts the file
// back to exactly that. Decides nothing about streams: its caller has verified what it appends.
//
// Threads: one at a time.
// Ownership: owns its descriptors; borrows the JournalFile.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>

#include "journal/block_writer.h"
#include "journal/journal_file.h"
#include "journal/segment.h"
#include "os/fd.h"

namespace afterimage {

struct SegmentRoom {
  uint64_t segment_bytes = kSegmentBytesDefault;
  /// What the file system must have left when a segment was allocated, or it counts as full: for those who
  /// shorten history then, and for the catalog.
  uint64_t headroom_bytes = 0;
};

class SegmentAppender {
 public:
  /// Preallocates the file and makes it and its name durable. What a crash left behind under this name
  /// is replaced if it has no frames, or no header by which any could be read; else it is JOURNAL_IO. Errors:
  /// JOURNAL_FULL, JOURNAL_IO.
  static Result<std::unique_ptr<SegmentAppender>> create(JournalFile* file, const std::string& directory,
                                                         const SegmentHeader& header,
                                                         const SegmentRoom& room);
  /// Goes on behind tail.bytes. What lies there is cut off first and never seen again; what lies before is
  /// made durable, because a crash may have left it in the page cache only. Errors: JOURNAL_FULL (then the
  /// segment is sealed), JOURNAL_IO.
  static Result<std::unique_ptr<SegmentAppender>> reopen(JournalFile* file, const SegmentInfo& tail,
                                                         const SegmentRoom& room);

  bool fits(uint64_t frame_bytes) const;
  /// Appends `frames` (their bytes in `pieces`) and makes them durable. On failure none of
  /// them is in the segment, which can then only be cut back. Errors: JOURNAL_FULL, JOURNAL_IO.
  Outcome append(std::span<const FrameHeader> frames, std::span<const iovec> pieces);
  /// Cuts the file right behind the last durable frame, which seals it; removes it if there is none.
  /// Errors: JOURNAL_IO.
  Outcome seal();
  /// After JOURNAL_IO: takes away what is not durable, if the disk still lets it, so that no reader finds it
  /// in the page cache. Nothing can be appended any more.
  void abandon();

  const SegmentInfo& info() const { return info_; }  // of what is durable

 private:
  SegmentAppender(JournalFile* file, const SegmentRoom& room) : file_(file), room_(room) {}
  Errno preallocate();

  JournalFile* file_;
  SegmentRoom room_;
  SegmentInfo info_;
  Fd fd_;
  Fd directory_;
  std::unique_ptr<BlockWriter> writer_;
};

/// JOURNAL_FULL for a full disk or quota, else JOURNAL_IO.
Error journal_error(const std::string& what, Errno error);

}  // namespace afterimage
