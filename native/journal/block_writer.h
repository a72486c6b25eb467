// BlockWriter: appends to a file past the page cache. What is written once, and read seldom and much later,
// has no use for that: filling fresh pages of it cost more than all else that a journal's writer does.
//
// Direct I/O takes whole blocks, and what is appended ends anywhere: the block that it ends within is kept,
// padded with zeroes, and written again with what comes next. Its first part stays what it was, sector by
// sector, so that whatever a power cut leaves of such a write, what was durable before is there. Where a file
// system takes no direct I/O, or does not take all of a write, it goes on through the page cache.
//
// Threads: one at a time. Ownership: borrows the file and the descriptor, which is switched to direct I/O.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

#include "journal/journal_file.h"

namespace afterimage {

class BlockWriter {
 public:
  /// Goes on at `end`: what lies before in the same block is read.
  static Errno open(JournalFile* file, int fd, uint64_t end, std::unique_ptr<BlockWriter>* writer);

  /// Writes `pieces`, one behind the other, at the end, which is then behind them. After an error nothing can
  /// be appended any more, and what lies behind the end is undefined; before it all is as it was.
  Errno append(std::span<const iovec> pieces);

  uint64_t end() const { return end_; }
  bool is_direct() const { return is_direct_; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  BlockWriter(JournalFile* file, int fd, uint64_t end) : file_(*file), fd_(fd), end_(end) {}
  Errno append_direct(std::span<const iovec> pieces);
  Errno append_cached(std::span<const iovec> pieces);
  Errno write_blocks(uint64_t bytes);
  void leave_direct();

  JournalFile& file_;
  const int fd_;
  uint64_t end_;
  bool is_direct_ = false;
  std::unique_ptr<std::byte, Free> blocks_;  // what is to be written next, from the block that end_ lies in
  uint64_t blocks_begin_ = 0;                // its place in the file
};

}  // namespace afterimage
