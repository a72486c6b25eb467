// RequestSlots: the memory that front-end threads read their next request into. It lies in a memfd, so that a
// successor process can finish what a killed one had read: a slot is occupied when its kernel-written header
// is non-zero, and is zeroed before each read; `executed` says that backing and ring already hold it.
//
// Threads: each slot belongs to one front-end thread. Ownership: owns memfd and mapping, populated and (where
// permitted) locked: the kernel fails a FUSE request with EIO if it cannot copy it into the reader's buffer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kSlotLayoutVersion = 1;

class RequestSlots {
 public:
  /// `count` slots, each with a buffer of `buffer_bytes` whose byte `payload_offset` is page-aligned.
  static Result<std::unique_ptr<RequestSlots>> create(uint32_t count, uint32_t buffer_bytes,
                                                      uint32_t payload_offset);
  ~RequestSlots();
  struct Slot {
    std::atomic<uint32_t>* executed;
    std::byte* buffer;
    uint32_t buffer_bytes;
  };
  Slot slot(uint32_t index) const;
  uint32_t count() const;
  int memfd() const;
};

}  // namespace afterimage
