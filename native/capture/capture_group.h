// CaptureGroup: the sequencer of one member. Gives every captured record of all its volumes one LSN and one
// time (R1), holds them in the ring, and turns them into frames for whoever pulls.
//
//   applied ≤ durable ≤ received ≤ shipped ≤ captured           (asserted where each is raised)
//
// Modes:
//   kTracking   records are not published. Production goes on and nothing waits. Entered at the start, when
//   the ring
//               is full, when the LSN ceiling is reached, or by close_stream(). The stream then ends at the
//               last complete LSN; next() still delivers everything up to it and then one StreamEnd.
//   kStreaming  every record is published. Entered by begin_generation() (or resume_generation()) only.
//
// Threads: publish(), flush_mark() from I/O threads; they take the sequence mutex for a few hundred
// nanoseconds and never wait for the pump, the network or JavaScript. Everything else from one control
// thread. `on_ready` is called from the pump thread. Ownership: owns the ring, the pump thread and a fixed
// pool of frame buffers; a Frame is lent until release_frame().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>

#include "capture/capture_ring.h"
#include "journal/frame.h"

namespace afterimage {

constexpr uint32_t kFrameHeadroomBytes = 64;  // free bytes before each frame, for the transport's own header
constexpr uint32_t kFramePoolCount = 16;
constexpr uint64_t kClockStepNs = 1'000'000'000;  // a larger jump opens a new time era

class CaptureGroup {
 public:
  enum class Mode { kTracking, kStreaming };
  struct Options {
    Uuid group{};
    Uuid member{};
    uint64_t ring_bytes = 256ull << 20;
    uint32_t linger_us = 3000;  // a frame is sealed this long after its first record at the latest
    uint64_t last_time_ns = 0;  // times given continue above this (persisted by the agent)
    uint32_t era = 1;
  };
  struct Generation {
    uint64_t epoch = 0;
    uint64_t generation = 0;
    uint64_t first_lsn = 0;    // the next LSN to be given
    uint64_t lsn_ceiling = 0;  // LSNs above it are not used until raise_ceiling()
  };
  struct Publication {
    uint64_t lsn = 0;  // 0: tracking, nothing was published
    uint64_t time_ns = 0;
  };
  struct Frame {
    std::byte* bytes = nullptr;  // kFrameHeadroomBytes of free space lie before it
    FrameHeader header{};
    uint32_t pool_index = 0;
  };
  struct StreamEnd {
    uint64_t generation = 0;
    uint64_t last_lsn = 0;  // the last complete LSN of the generation; everything up to it was delivered
    const char* reason = nullptr;  // "RING_FULL", "LSN_CEILING", "BACKING_FAILED", "CLOSED"
  };
  using Delivery = std::variant<Frame, StreamEnd>;
  struct Stats {
    Mode mode = Mode::kTracking;
    uint64_t generation = 0;
    uint64_t captured_lsn = 0;      // last LSN given
    uint64_t captured_time_ns = 0;  // and its time
    uint64_t released_lsn = 0;      // durable at the receiver
    uint64_t oldest_time_ns = 0;    // time of the oldest record not yet released; 0 if there is none
    uint64_t ring_used_bytes = 0;
    uint64_t ring_bytes = 0;
    uint64_t records = 0;            // since the start, all volumes
    uint64_t raw_bytes = 0;          // payload captured since the start
    uint64_t untracked_records = 0;  // modifications while kTracking
    uint32_t era = 0;
  };

  static Result<std::unique_ptr<CaptureGroup>> create(const Options& options);
  ~CaptureGroup();  // stops the pump; no device may use the group any more

  // --- I/O threads ---
  /// Publishes one record, in LSN order of the calls. `payload` is copied; null for kinds without one. The
  /// caller holds the volume's extent lock over [offset, offset+length).
  Publication publish(const FrameBuilder::Record& record, const std::byte* payload);

  // --- control thread ---
  /// kTracking → kStreaming with new numbers. Requires that the previous stream's end was delivered.
  /// first_lsn is above every LSN ever used by this member.
  void begin_generation(const Generation& generation);
  /// kStreaming → kTracking at the last complete LSN; also used by I/O threads on a failed re-read of the
  /// backing.
  void close_stream(const char* reason);
  void raise_ceiling(uint64_t lsn);

  /// (Re)starts framing after `durable_lsn` with `link` = header CRC of the receiver's last frame (0: none in
  /// this generation). Drops frames that were built and not taken. Everything after durable_lsn is still in
  /// the ring.
  void start_shipping(uint64_t durable_lsn, uint32_t link);
  void stop_shipping();
  /// Takes the next delivery if one is ready. When it returns nothing, `on_ready` will be called once, from
  /// the pump thread, as soon as one is: this is how JavaScript pulls, and not calling is the backpressure.
  std::optional<Delivery> next();
  void set_on_ready(std::function<void()> on_ready);
  void release_frame(uint32_t pool_index);
  /// The receiver has everything up to `durable_lsn` on stable storage: the ring forgets it.
  void release(uint64_t durable_lsn);
  /// Where to mark "now": the last LSN given and a time not before any record up to it.
  Publication position() const;
  Stats stats() const;
  int ring_memfd() const;
};

}  // namespace afterimage
