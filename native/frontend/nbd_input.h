// NbdInput: what has been received from one client and not yet carried out. One call of recv brings as many
// requests as have arrived; payloads are used where they lie.
//
// Threads: one. Ownership: socket and buffer are the caller's; what data() shows is good until the next fill.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace afterimage {

constexpr size_t kNbdPieceBytes =
    1 << 20;  // a longer payload is received, and a longer write done, in such pieces
constexpr size_t kNbdInputBytes = 4096 + kNbdPieceBytes;  // of its buffer, page-aligned

class NbdInput {
 public:
  /// Once `stopping` is set and the socket shut for reading, only what has arrived by then is still handed
  /// out.
  NbdInput(int socket, const std::atomic<bool>& stopping, std::span<std::byte> buffer);
  const std::byte* data() const { return buffer_.data() + begin_; }
  size_t available() const { return end_ - begin_; }
  void consume(size_t bytes) { begin_ += bytes; }
  /// Blocks until a request's header, or `bytes` (≤ kNbdPieceBytes) of its payload, are available. False: no
  /// more come.
  bool fill_header();
  bool fill_payload(size_t bytes);

 private:
  bool fill(size_t bytes, size_t home);
  ssize_t receive(size_t limit);

  const int socket_;
  const std::atomic<bool>& stopping_;
  const std::span<std::byte> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint32_t spins_wasted_ = 0;  // in a row, weighted
  uint32_t spins_to_skip_ = 0;
  uint32_t receives_after_stop_ = 0;
};

}  // namespace afterimage
