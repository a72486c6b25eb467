#include "device/block_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace afterimage {

Errno BlockDevice::allocation(uint64_t offset, uint64_t length, std::vector<AllocationExtent>* extents) {
  if (const Errno error = check_range(size(), offset, length, EINVAL)) return error;
  extents->clear();
  if (length > 0) extents->push_back({length, false, false});
  return 0;
}

void append_extent(std::vector<AllocationExtent>* extents, const AllocationExtent& extent) {
  if (extent.length == 0) return;
  if (!extents->empty() && extents->back().hole == extent.hole && extents->back().zero == extent.zero)
    extents->back().length += extent.length;
  else
    extents->push_back(extent);
}

bool is_zero(const std::byte* data, uint64_t length) {
  const uint64_t head = std::min<uint64_t>(length, 16);
  for (uint64_t i = 0; i < head; ++i)
    if (data[i] != std::byte{0}) return false;
  // Comparing the range with itself shifted by 16 lets memcmp do the work at its full width.
  return length <= 16 || std::memcmp(data, data + 16, length - 16) == 0;
}

}  // namespace afterimage
