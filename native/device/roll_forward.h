// RollForward: moves the base image of one volume over the oldest segments of its journal: what their records
// left in each sector is written into it, in the order of its blocks, from the merged index of all of them.
// The only writer of a base that points rest on.
//
// Idempotent, and harmless wherever it ends: it writes no sector but those that these segments set, and a
// point at or behind the last of their records takes these from the segments for as long as they are there.
// So it can be begun anew after a crash or an error, while points are open; the segments may go once sync()
// has succeeded. Its checksums follow as BaseWriter says: what it ends in the middle of has none, and is what
// it writes first or again the next time.
//
// A block of the base that is damaged, and of which the segments set a part only, ends it before that part is
// written: it can be read from the segments and from nowhere else. Over more segments, which set all of the
// block, it goes on.
//
// Threads: one at a time, any worker thread; blocks on I/O. Ownership: owns its descriptors, and the lock on
// the base.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/base_writer.h"
#include "device/point_in_time_device.h"

namespace afterimage {

constexpr uint64_t kRollWindowBytes = 64u << 20;  // of the volume, looked at together
constexpr uint32_t kRollPieceBytes = 1u << 20;    // of one write
constexpr uint32_t kRollWindowsMax = 256;         // of one advance(), however little there is to write
/// Blocks of the base whose checksums are away before they are given back, and so of one advance() too.
constexpr uint64_t kRollUnsettledMax = 4096;

class RollForward {
 public:
  struct Progress {
    uint64_t bytes_written = 0;  // by this call; zeroes count too
    bool is_done = false;
  };

  /// `source`: the segments, whole, and the base that they go into; its lsn is the last of theirs, its size
  /// the volume's then. A base that is shorter grows. Errors: those of PointInTimeDevice::open, BACKING_BUSY,
  /// PERMISSION_DENIED, JOURNAL_FULL, JOURNAL_IO.
  static Result<std::unique_ptr<RollForward>> open(PointSource source);

  /// Goes on until at least `bytes_max` are written, or for kRollWindowsMax windows. Errors: SEGMENT_CORRUPT
  /// and IO_ERROR of the segments, JOURNAL_FULL, JOURNAL_IO and BASE_CORRUPT of the base.
  Result<Progress> advance(uint64_t bytes_max);
  /// Once all is done: it is on stable storage, with its checksums. Errors: JOURNAL_FULL, JOURNAL_IO; then
  /// all of it has to be done anew.
  Outcome sync();
  /// After BASE_CORRUPT: the damaged blocks that it could not write into.
  const std::vector<uint64_t>& bad_offsets() const { return bad_offsets_; }

 private:
  RollForward() = default;
  Outcome look_ahead();
  Outcome prepare();
  Outcome apply(const PointInTimeDevice::Journaled& stretch);

  std::string base_path_;
  std::unique_ptr<PointInTimeDevice> source_;
  std::unique_ptr<BaseWriter> base_;
  std::unique_ptr<std::byte[]> piece_;
  uint64_t looked_at_ = 0;  // the volume's bytes below are in the base or in stretches_
  std::vector<PointInTimeDevice::Journaled> stretches_;  // of the present window
  size_t next_ = 0;                                      // of stretches_
  uint64_t unsettled_ = 0;  // blocks that were prepared since the checksums were given back
  std::vector<uint64_t> bad_offsets_;
};

}  // namespace afterimage
