// DirtyLogFile: the dirty log's bitmap on stable storage (docs/FORMAT.md, "Dirty log"): a header in two
// copies, then for each page of the bitmap four slots, two copies for each of two turns.
//
// Why this and not an appended log: its size is fixed and all of it is written when the log is made, so that
// no later mark needs room on the disk, and nothing ever has to be compacted. For a volume that has grown a
// longer file takes its place. Why two turns: a page is
// written over the turn before the last, so that a torn write leaves the last one. Why two copies of each: of
// one copy alone nobody could tell one that rotted from one that a power loss tore, and the turn before it
// lacks marks.
//
// Threads: none of its own, one call at a time. Ownership: owns the descriptor.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "journal/journal_file.h"
#include "os/fd.h"
#include "os/result.h"
#include "os/uuid.h"

namespace afterimage {

constexpr uint32_t kDirtyLogVersion = 1;
constexpr uint64_t kDirtyExtentBytes = 4u << 20;
constexpr uint32_t kDirtySlotBytes = 4096;
constexpr uint32_t kDirtySlotHeaderBytes = 64;
constexpr uint32_t kDirtyPageExtents = (kDirtySlotBytes - kDirtySlotHeaderBytes) * 8;  // 126 GiB
constexpr uint64_t kDirtyVolumeBytesMax = 1ull << 49;  // proto: as a segment's volume entry
constexpr uint32_t kDirtyCopies = 2;
constexpr uint64_t kDirtyHeadersBytes = uint64_t{kDirtyCopies} * kDirtySlotBytes;
constexpr uint64_t kDirtyTurnBytes = uint64_t{kDirtyCopies} * kDirtySlotBytes;
constexpr uint64_t kDirtyPageBytes = 2 * kDirtyTurnBytes;

/// A page of the bitmap: bit e of byte e/8 stands for extent e of the page.
struct DirtyPage {
  uint64_t sequence = 0;  // rises by one with each writing
  /// What was unmarked in it is unmarked rightly if the receiver holds everything up to this LSN, in this
  /// generation or a later one.
  uint64_t basis_generation = 0;
  uint64_t basis_lsn = 0;
  std::vector<std::byte> bits = std::vector<std::byte>(kDirtySlotBytes - kDirtySlotHeaderBytes);
};

class DirtyLogFile {
 public:
  struct Identity {
    Uuid volume{};
    uint64_t volume_bytes = 0;
  };
  /// Reads the log of this volume and makes it whole again where a writing was cut short. One of the same
  /// volume when it was smaller is grown(). Errors: IO_ERROR, PERMISSION_DENIED (of the system);
  /// STATE_INVALID, which says why nothing in it can be believed: missing, damaged, of another version, of
  /// another volume, of a larger one.
  static Result<std::unique_ptr<DirtyLogFile>> open(const std::string& path, const Identity& identity,
                                                    JournalFile& file);
  /// Puts a new log with every extent marked, and an `id` never used before, in the place of whatever is
  /// there, and makes its directory if that is missing. Errors: IO_ERROR, PERMISSION_DENIED.
  static Result<std::unique_ptr<DirtyLogFile>> create(const std::string& path, const Identity& identity,
                                                      JournalFile& file);

  /// Puts a longer one in the place of this: of the same id, with `pages` as they are to be, and all that the
  /// volume has grown by marked. Their sequences rise by two. Errors: IO_ERROR, PERMISSION_DENIED; either
  /// of them is then there.
  Result<std::unique_ptr<DirtyLogFile>> grown(uint64_t volume_bytes, std::vector<DirtyPage> pages) const;

  /// Random, 1…2⁶³−1: tells a log from the one before it.
  uint64_t id() const { return id_; }
  /// As read or made; the caller takes them over.
  std::vector<DirtyPage> take_pages() { return std::move(pages_); }

  /// Writes a page, as its next turn; not durable before sync(). At most one writing of a page between two
  /// syncs.
  Errno write(uint32_t index, const DirtyPage& page);
  Errno sync();
  /// Whoever opens it later must find nothing to believe: 0 once that is on stable storage, else why it is
  /// not yet. The disk may have just failed.
  Errno invalidate();
  /// The same for a file that could not even be opened as a log.
  static Errno discard(const std::string& path, JournalFile& file);

 private:
  DirtyLogFile(std::string path, const Identity& identity, JournalFile& file, Fd fd);
  /// A new file with these pages, each of which is written in both of its turns.
  static Result<std::unique_ptr<DirtyLogFile>> make(const std::string& path, const Identity& identity,
                                                    JournalFile& file, uint64_t id,
                                                    std::vector<DirtyPage> pages);
  Outcome read_header();
  Outcome read_pages();
  Errno write_bytes(const std::byte* bytes, uint64_t length, uint64_t offset);
  void write_header(std::byte* slot) const;
  bool read_slot(const std::byte* slot, uint32_t index, DirtyPage* page) const;
  void write_slot(std::byte* slot, uint32_t index, const DirtyPage& page) const;

  const std::string path_;
  Identity identity_;
  JournalFile& file_;
  Fd fd_;
  uint64_t id_ = 0;
  std::vector<DirtyPage> pages_;
  std::vector<std::byte> slot_ = std::vector<std::byte>(kDirtySlotBytes);  // what is being written
};

/// The pages of a volume of `before` bytes, 0 for a new one, become those of one of `after`, with all that
/// this adds marked.
void grow_pages(std::vector<DirtyPage>* pages, uint64_t before, uint64_t after);

constexpr uint64_t dirty_extents(uint64_t volume_bytes) {
  return volume_bytes / kDirtyExtentBytes + (volume_bytes % kDirtyExtentBytes != 0 ? 1 : 0);
}
constexpr uint32_t dirty_pages(uint64_t volume_bytes) {
  return static_cast<uint32_t>((dirty_extents(volume_bytes) + kDirtyPageExtents - 1) / kDirtyPageExtents);
}

}  // namespace afterimage
