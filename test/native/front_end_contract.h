// The contract of front ends (whatever serves a BlockDevice to clients) as a suite to be run over every
// implementation:
//
//   TEST_CASE("an NBD server on a Unix socket keeps the contract of front ends") {
//     check_front_end_contract(nbd_front_end_on_unix_socket());
//   }
//
// The suite serves a VolatileDevice and looks at both ends of the front end: what clients are told, and what
// the device holds, and would hold after a power loss, at that moment. AFTERIMAGE_TEST_SEED=N replays a
// failure; each failure names its seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/block_device.h"

namespace afterimage {

/// Longer than what any front end carries out in one piece.
constexpr uint64_t kLongRequestBytes = (1 << 20) + (64 << 10);

/// One client. Each call waits for the answer and returns it: 0 or an errno; an answer for less than was
/// asked is an error too.
///
/// Threads: one at a time. Destroying it closes its connection.
class FrontEndClient {
 public:
  using Bytes = std::vector<std::byte>;

  virtual ~FrontEndClient() = default;
  virtual uint64_t size() = 0;
  virtual uint32_t block_size() = 0;
  /// Offsets and lengths are to be multiples of this.
  virtual uint32_t alignment() = 0;
  virtual Errno read(uint64_t offset, Bytes* into) = 0;
  virtual Errno write(uint64_t offset, const Bytes& from) = 0;
  /// A write that is on stable storage once it is answered.
  virtual Errno write_durably(uint64_t offset, const Bytes& from) = 0;
  virtual Errno zero(uint64_t offset, uint64_t length) = 0;
  virtual Errno trim(uint64_t offset, uint64_t length) = 0;
  virtual Errno flush() = 0;
  /// Sends a write, waits until it `has_arrived`, and is gone without having seen the answer. Nothing but
  /// destroying the client may follow, after the device has let the write pass.
  virtual void vanish_during_write(uint64_t offset, const Bytes& from,
                                   const std::function<void()>& has_arrived) = 0;
};

/// A running front end. Destroying it stops it. Threads: one control thread.
class ServedFrontEnd {
 public:
  virtual ~ServedFrontEnd() = default;
  virtual std::unique_ptr<FrontEndClient> connect() = 0;
  /// For volumes served to the kernel that includes taking the block device away; clients close meanwhile.
  virtual void stop() = 0;
  /// What clients could still find of it outside of this process, "" for nothing.
  virtual std::string remains() = 0;
};

struct FrontEnd {
  std::string name;
  /// The kernel's block layer lies between client and front end: it cuts what reaches across the end as files
  /// do, and tells errors in its own words.
  bool has_block_layer = false;
  /// Serves at least four requests at once. Fails the test if it cannot start.
  std::function<std::unique_ptr<ServedFrontEnd>(const std::shared_ptr<BlockDevice>& device, bool read_only)>
      serve;
};

/// Consists of doctest SUBCASEs: to be called once, directly from a TEST_CASE.
void check_front_end_contract(const FrontEnd& front_end);

}  // namespace afterimage
