// SegmentCursor: walks the frames of a segment file from its start, for as long as each continues the stream.
// The only code that decides where a segment ends (docs/FORMAT.md, "Reading a segment, and finding its end").
//
// Threads: one at a time.
// Ownership: owns its descriptor and its buffer; frame() is valid until the next call of next().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "journal/segment.h"
#include "os/fd.h"

namespace afterimage {

class SegmentCursor {
 public:
  /// kPayload verifies the chunks' CRCs too, and reads from the disk what the page cache held.
  enum class Depth { kTables, kPayload };

  /// Looks at the first `bytes_max` bytes of the file only.
  /// Errors: SEGMENT_CORRUPT (header), SEGMENT_VERSION, PERMISSION_DENIED, IO_ERROR.
  static Result<std::unique_ptr<SegmentCursor>> open(const std::string& path, Depth depth,
                                                     uint64_t bytes_max = kSegmentBytesMax);

  const SegmentHeader& header() const { return header_; }
  uint64_t file_bytes() const { return file_bytes_; }

  /// Moves to the next frame. False at the end, whose reason is then known. Errors: IO_ERROR, and
  /// SEGMENT_VERSION where a newer program went on: what it wrote is neither torn nor damaged.
  Result<bool> next();
  const FrameView& frame() const { return frame_; }  // payload set at Depth::kPayload only
  uint64_t frame_offset() const { return frame_offset_; }

  uint64_t position() const { return position_; }  // behind the last valid frame
  /// "" at a clean end.
  const std::string& stop_reason() const { return stop_reason_; }

 private:
  SegmentCursor() = default;
  /// At least `bytes` bytes from position_ on are in unread(), less only at the end of the file.
  Outcome fill(uint64_t bytes);
  void consume(uint64_t bytes);
  std::byte* unread() { return buffer_.data() + begin_; }
  bool stop(std::string reason);

  std::string path_;
  Fd fd_;
  Depth depth_ = Depth::kTables;
  SegmentHeader header_{};
  uint64_t file_bytes_ = 0;
  uint64_t bytes_ = 0;  // of the file, as far as this cursor looks
  uint64_t position_ = kSegmentHeaderBytes;
  uint64_t next_lsn_ = 0;
  uint64_t epoch_ = 0;
  uint32_t link_ = 0;
  std::vector<std::byte> buffer_;  // unread() lies in it at a multiple of 8
  uint64_t begin_ = 0;
  uint64_t filled_ = 0;       // bytes of unread()
  uint64_t frame_bytes_ = 0;  // of frame_, still in the buffer
  FrameView frame_;
  uint64_t frame_offset_ = 0;
  std::string stop_reason_;
};

}  // namespace afterimage
