// Target: where a writer writes to, as another program would: a block device with O_DIRECT, or an NBD export
// through libnbd.
//
// Threads: one. Each writer has targets of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace afterimage::torture {

/// How an operation failed: 0, or an errno. ECANCELED: its connection broke, and nobody tries again.
using Errno = int;

class Target {
 public:
  /// A path, or an NBD URI. Once `is_ending` is set, what breaks off is given up. Exits with a message when
  /// it cannot be opened.
  static std::unique_ptr<Target> open(const std::string& name, const std::atomic<bool>& is_ending);
  virtual ~Target() = default;

  virtual uint64_t size() const = 0;
  /// `data` is aligned to a page, as O_DIRECT wants it. A short write is EIO.
  virtual Errno write(std::span<const std::byte> data, uint64_t offset, bool is_fua) = 0;
  virtual Errno trim(uint64_t offset, uint64_t length) = 0;
  virtual Errno zero(uint64_t offset, uint64_t length) = 0;
  virtual Errno flush() = 0;
};

}  // namespace afterimage::torture
