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
//   kStreaming  every record is published. Entered by begin_generation() only.
//
// A ring that is more than half full overflows into spool files, where there is a spool: see Backlog,
// Spooler.
//
// Threads: publish(), close_stream(), position(), mode() and is_crowded() from any thread; they take the
// sequence mutex for a few hundred nanoseconds and never wait for the pump, the network or JavaScript.
// Everything else from one control thread. `on_ready` is called from the pump thread. Ownership: owns the
// ring and the pump thread until close(), and shares a fixed pool of frame buffers; a Frame is lent until
// release_frame().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>

#include "capture/backlog.h"
#include "capture/capture_ring.h"
#include "capture/era_clock.h"
#include "capture/spooler.h"
#include "journal/frame.h"

namespace afterimage {

constexpr uint32_t kFrameHeadroomBytes = 64;  // free bytes before each frame, for the transport's own header
constexpr uint32_t kFramePoolCount = 16;
constexpr uint32_t kLingersMax = 5;

class FramePump;

class CaptureGroup {
 public:
  enum class Mode { kTracking, kStreaming };
  struct Options {
    Uuid group{};
    Uuid member{};
    uint64_t ring_bytes = 256ull << 20;
    /// A frame is sealed this long after its first record; while little comes, up to kLingersMax times as
    /// long.
    uint32_t linger_us = 3000;
    uint64_t last_time_ns = 0;  // times given continue above this (persisted by the agent)
    uint32_t era = 1;
    EraClock::Source clock = read_clock;  // the hook for tests of clock steps
    Spooler::Options spool{};             // bytes_max 0: none
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
    const char* reason = nullptr;  // one of kEndReasons
  };
  /// What was spooled cannot be read: nothing more is delivered until start_shipping(), which will only get
  /// here again. The stream has to be abandoned.
  struct StreamLoss {
    const char* code = nullptr;  // SPOOL_CORRUPT, SPOOL_IO
    std::string message;
  };
  using Delivery = std::variant<Frame, StreamEnd, StreamLoss>;
  struct Stats {
    Mode mode = Mode::kTracking;
    uint64_t generation = 0;
    uint64_t lsn_ceiling = 0;
    uint64_t captured_lsn = 0;      // last LSN given
    uint64_t captured_time_ns = 0;  // and its time
    uint64_t released_lsn = 0;      // durable at the receiver
    uint64_t oldest_time_ns = 0;    // time of the oldest record not yet released; 0 if there is none
    uint64_t ring_used_bytes = 0;
    uint64_t ring_bytes = 0;
    uint64_t spool_used_bytes = 0;
    uint64_t spool_bytes = 0;  // 0: there is none
    Spooler::State spool;
    const char* end_reason = "";     // why the stream of the last generation has ended
    uint64_t records = 0;            // since the start, all volumes
    uint64_t raw_bytes = 0;          // payload captured since the start
    uint64_t untracked_records = 0;  // modifications while kTracking
    uint32_t era = 0;
  };

  /// What an earlier process has spooled is removed, by and by. Errors: RING_UNAVAILABLE.
  static Result<std::unique_ptr<CaptureGroup>> create(const Options& options);
  /// Goes on with the ring of a predecessor, all of whose threads must have ended: production may be let in
  /// at once, and is captured if it was before. Nothing is shipped before resume_generation(). The ring's own
  /// size, time and era count, not those of the options. Errors: RING_LAYOUT (of another version or member,
  /// or damaged: the stream cannot go on), SPOOL_CORRUPT (part of it was spooled, and there is no spool any
  /// more), RING_UNAVAILABLE. What it had spooled is looked for meanwhile: next() waits for it, and tells
  /// (StreamLoss) if it cannot be had.
  static Result<std::unique_ptr<CaptureGroup>> adopt(const Options& options, Fd ring);
  ~CaptureGroup();  // as close(); no device may use the group any more

  // --- any thread ---
  /// Publishes one record, in LSN order of the calls. `payload` is copied; null for kinds without one. The
  /// caller holds the volume's extent lock over [offset, offset+length).
  Publication publish(const FrameBuilder::Record& record, const std::byte* payload);
  /// kStreaming → kTracking at the last complete LSN; also used by I/O threads on a failed re-read of the
  /// backing. `reason` is a static string.
  void close_stream(const char* reason);
  /// Where to mark "now": the last LSN given and a time not before any record up to it, and before every
  /// later one.
  Publication position() const;
  Mode mode() const;
  /// How far the stream is proven, for whoever must not forget a write before the receiver has it. Any
  /// thread.
  struct Standing {
    bool streaming = false;
    uint64_t generation = 0;
    uint64_t captured_lsn = 0;
    /// Everything of the generation up to here was given to release(). Of a stream that has ended it says
    /// nothing.
    uint64_t confirmed_lsn = 0;
  };
  Standing standing() const;
  /// The ring is more than half full, or has overflowed into the spool: what can wait should leave the rest
  /// to production.
  bool is_crowded() const;

  // --- control thread ---
  /// kTracking → kStreaming with new numbers. Requires that the previous stream's end was delivered.
  /// first_lsn is above every LSN ever used by this member. Errors: GENERATION_INVALID.
  Outcome begin_generation(const Generation& generation);
  /// Of an inherited stream, which has ended or not: its frames are `epoch`'s from now on.
  void resume_generation(uint64_t epoch, uint64_t lsn_ceiling);
  void raise_ceiling(uint64_t lsn);
  /// Time goes on above `last_time_ns` in era `era`, where it is not beyond that already: for a ring that
  /// does not know what the member's records have had. No generation is under way.
  void resume_clock(uint64_t last_time_ns, uint32_t era);
  /// Closes the stream and forgets what the ring holds, without a StreamEnd: for a receiver that was replaced
  /// or restored from an older copy, where what is kept continues nothing. begin_generation() may follow at
  /// once.
  void abandon_stream();

  /// (Re)starts framing after `durable_lsn` with `link` = header CRC of the receiver's last frame (0: none in
  /// this generation). Drops frames that were built and not taken. Everything after durable_lsn is still in
  /// the ring. A stream end that lies after durable_lsn is delivered (again) in its place. Errors:
  /// WATERMARK_INVALID when durable_lsn was never shipped, or is before what the receiver has confirmed (that
  /// was released and cannot be sent again).
  Outcome start_shipping(uint64_t durable_lsn, uint32_t link);
  void stop_shipping();
  /// Takes the next delivery if one is ready. When it returns nothing, `on_ready` will be called once, from
  /// the pump thread, as soon as one is: this is how JavaScript pulls, and not calling is the backpressure.
  std::optional<Delivery> next();
  /// Returns when no call of the former one is under way. `on_ready` must not call back into the group.
  void set_on_ready(std::function<void()> on_ready);
  void release_frame(uint32_t pool_index);
  /// The receiver has everything up to `durable_lsn` on stable storage: the ring forgets it. What was
  /// released before is ignored. Errors: WATERMARK_INVALID beyond what this session has shipped.
  Outcome release(uint64_t durable_lsn);
  Stats stats() const;
  int ring_memfd() const;
  /// What the frames' bytes lie in: whoever still sends one keeps this, and not the group.
  std::shared_ptr<void> frame_pool() const;

  /// Ends the pump and gives ring and spool back, once no writer copies into it. May wait for both: on a
  /// worker thread. Devices that are left pass their writes through as while tracking; of the control
  /// thread's calls only release_frame() may follow.
  void close();

 private:
  CaptureGroup(const Options& options, std::unique_ptr<CaptureRing> ring, EraClock clock);
  Outcome inherit();
  void begin_spooling();
  void remember();
  RingRecord* give_number(const FrameBuilder::Record& record, uint32_t payload_bytes, uint64_t time_ns);
  void begin_tracking(const char* reason);
  const char* full_reason() const;
  uint64_t past_gaps(uint64_t lsn) const;

  std::unique_ptr<CaptureRing> ring_;  // null once closed: reset under the mutex, with no record in it
  const std::unique_ptr<Backlog> backlog_;
  const std::unique_ptr<FramePump> pump_;
  const std::unique_ptr<Spooler> spooler_;  // null: no spool. Its thread tells the pump

  mutable std::mutex sequence_;  // what follows; held to give one record its LSN, time and place in the ring
  mutable EraClock clock_;
  Mode mode_ = Mode::kTracking;
  Generation generation_;
  uint64_t captured_lsn_ = 0;
  uint64_t captured_time_ns_ = 0;
  uint64_t records_ = 0;
  uint64_t raw_bytes_ = 0;
  uint64_t untracked_records_ = 0;
  const char* end_reason_ = nullptr;  // of the last generation begun; null while it streams

  // The control thread's: released ≤ durable ≤ shipped ≤ captured.
  bool end_delivered_ = true;     // of the last generation begun
  uint64_t shipped_lsn_ = 0;      // taken by next(), or held by the receiver, in this session
  uint64_t shipped_lsn_max_ = 0;  // in any session
  uint64_t released_lsn_ = 0;
  std::atomic<uint64_t> confirmed_lsn_{0};  // as given to release(): read by any thread
  uint64_t resend_floor_lsn_ = 0;           // the last record that the ring has forgotten
  std::map<uint64_t, uint64_t>
      lsn_gaps_;  // last LSN of one generation → first of the next, while one is in the ring
};

}  // namespace afterimage
