// NbdInput: what has been received from one client and not yet carried out. One call of recv brings as many
// requests as have arrived; payloads are used where they lie.
//
// Threads: one. Ownership: the socket is the caller's; the buffer is this object's, and what data() shows is
// good until the next fill.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace afterimage {

constexpr size_t kNbdPieceBytes =
    1 << 20;  // a longer payload is received, and a longer write done, in such pieces

class NbdInput {
 public:
  /// Once `stopping` is set and the socket shut for reading, only what has arrived by then is still handed
  /// out.
  NbdInput(int socket, const std::atomic<bool>& stopping);
  const std::byte* data() const { return buffer_.get() + begin_; }
  size_t available() const { return end_ - begin_; }
  void consume(size_t bytes) { begin_ += bytes; }
  /// Blocks until a request's header, or `bytes` (≤ kNbdPieceBytes) of its payload, are available. False: no
  /// more come.
  bool fill_header();
  bool fill_payload(size_t bytes);

 private:
  bool fill(size_t bytes, size_t home);
  ssize_t receive(size_t limit);

  struct Free {
    void operator()(std::byte* buffer) const { std::free(buffer); }
  };
  const int socket_;
  const std::atomic<bool>& stopping_;
  std::unique_ptr<std::byte, Free> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint32_t spins_wasted_ = 0;  // in a row, weighted
  uint32_t spins_to_skip_ = 0;
  uint32_t receives_after_stop_ = 0;
};

}  // namespace afterimage
