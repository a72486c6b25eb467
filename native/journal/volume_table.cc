#include "journal/volume_table.h"

#include "device/block_device.h"

namespace afterimage {

static_assert(kVolumeNumberMax < 64, "present_ has 64 bits");

VolumeTable::VolumeTable(std::span<const SegmentVolume> volumes) {
  for (const SegmentVolume& volume : volumes) {
    volumes_[volume.number] = volume;
    present_ |= 1ull << volume.number;
  }
}

const char* VolumeTable::fault(std::span<const SegmentVolume> volumes) {
  if (volumes.empty() || volumes.size() > kVolumeNumberMax + 1u) return "volume count";
  uint64_t seen = 0;
  for (const SegmentVolume& volume : volumes) {
    if (volume.number > kVolumeNumberMax) return "volume number";
    if ((seen >> volume.number & 1) != 0) return "volume number used twice";
    seen |= 1ull << volume.number;
    if (volume.block_size != 512 && volume.block_size != 4096) return "block size";
    if (volume.size % kSectorBytes != 0 || volume.size > kVolumeBytesMax) return "volume size";
  }
  return nullptr;
}

const SegmentVolume* VolumeTable::find(uint16_t number) const {
  return number <= kVolumeNumberMax && (present_ >> number & 1) != 0 ? &volumes_[number] : nullptr;
}

const char* VolumeTable::fault(const RecordEntry& record) const {
  const auto kind = static_cast<RecordKind>(record.kind);
  if (kind == RecordKind::kClock || kind == RecordKind::kVoid) return nullptr;
  const SegmentVolume* volume = find(record.volume);
  if (volume == nullptr) return "a volume that the segment does not list";
  switch (kind) {
    case RecordKind::kWrite:
    case RecordKind::kZero:
      return check_range(volume->size, record.offset, record.length, 1) != 0
                 ? "a range beyond the volume's size"
                 : nullptr;
    case RecordKind::kResize:
    case RecordKind::kMembership:
      return record.offset % kSectorBytes != 0 || record.offset > kVolumeBytesMax ? "a volume size" : nullptr;
    default:
      return nullptr;
  }
}

const char* VolumeTable::apply(std::span<const RecordEntry> records) {
  VolumeTable after = *this;
  for (const RecordEntry& record : records) {
    if (const char* fault = after.fault(record)) return fault;
    const auto kind = static_cast<RecordKind>(record.kind);
    if (kind == RecordKind::kResize || kind == RecordKind::kMembership)
      after.volumes_[record.volume].size = record.offset;
  }
  *this = after;
  return nullptr;
}

std::vector<SegmentVolume> VolumeTable::list() const {
  std::vector<SegmentVolume> volumes;
  for (const SegmentVolume& volume : volumes_)
    if ((present_ >> (&volume - volumes_.data()) & 1) != 0) volumes.push_back(volume);
  return volumes;
}

}  // namespace afterimage
