// A capture group that streams generation 3 from LSN 100 on, its ring as a successor gets it, and writes
// whose content is told by their offset.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "capture/capture_group.h"
#include "os/fd.h"
#include "stream_reader.h"

namespace afterimage {

constexpr uint64_t kNoCeiling = UINT64_MAX;

/// With a ring of the smallest size.
inline CaptureGroup::Options ring_options(uint8_t member = 0xbb) {
  CaptureGroup::Options options;
  options.ring_bytes = kRingBytesMin;
  options.group.fill(0xaa);
  options.member.fill(member);
  return options;
}

inline std::unique_ptr<CaptureGroup> streaming_group(const CaptureGroup::Options& options,
                                                     uint64_t ceiling = kNoCeiling) {
  auto group = CaptureGroup::create(options);
  REQUIRE(group.ok());
  REQUIRE((*group)
              ->begin_generation({.epoch = 1, .generation = 3, .first_lsn = 100, .lsn_ceiling = ceiling})
              .ok());
  return std::move(*group);
}

inline Fd copy_of_ring(const CaptureGroup& group) {
  return Fd(::fcntl(group.ring_memfd(), F_DUPFD_CLOEXEC, 0));
}

inline std::vector<std::byte> content(uint64_t offset, uint32_t length) {
  std::vector<std::byte> bytes(length);
  std::mt19937_64 random(offset);
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = random();
    std::memcpy(&bytes[i], &word, 8);
  }
  return bytes;
}

inline bool is_as_written(const StreamRecord& record) {
  return record.kind() == RecordKind::kWrite &&
         record.payload == content(record.entry.offset, static_cast<uint32_t>(record.payload.size()));
}

}  // namespace afterimage
