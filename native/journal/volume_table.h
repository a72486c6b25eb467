// VolumeTable: the volumes of a stream and their sizes at one record of it. Decides whether a record can be
// applied there, and follows the records that change it.
//
// Threads: a value; no sharing.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "journal/segment.h"

namespace afterimage {

constexpr uint64_t kVolumeBytesMax = 1ull << 49;  // an index entry has 40 bits for the sector

class VolumeTable {
 public:
  VolumeTable() = default;
  explicit VolumeTable(std::span<const SegmentVolume> volumes);

  /// Why this list cannot begin a segment (count, numbers, block sizes, sizes); nullptr if it can.
  static const char* fault(std::span<const SegmentVolume> volumes);

  const SegmentVolume* find(uint16_t number) const;
  /// Follows the records of one frame. Why they cannot be applied, and then nothing has changed; nullptr if
  /// they were.
  const char* apply(std::span<const RecordEntry> records);
  std::vector<SegmentVolume> list() const;  // by number

 private:
  const char* fault(const RecordEntry& record) const;

  std::array<SegmentVolume, kVolumeNumberMax + 1> volumes_{};  // by number
  uint64_t present_ = 0;                                       // bit per number
};

}  // namespace afterimage
