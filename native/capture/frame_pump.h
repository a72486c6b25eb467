// FramePump: the thread that turns the backlog's records into sealed frames, and the queue of those that wait
// to be taken.
//
// A frame is sealed when it is full, when era or generation change, or some milliseconds after its first
// record was published: so long as it takes at the present pace to make one that is worth what each costs at
// both ends, within bounds. It is compressed less thoroughly while the processors are in demand. The pump
// builds ahead as long as it has free buffers. With nothing to do it sleeps; publishers wake it only then, so
// a busy group pays no wake-up per record.
//
// Threads: record_published() and stream_ended() from I/O threads; the others from one control thread.
// Ownership: owns its thread and shares the buffers; borrows the backlog until end().
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "capture/capture_group.h"
#include "os/run_queue.h"

namespace afterimage {

class FramePump {
 public:
  using Frame = CaptureGroup::Frame;
  using StreamEnd = CaptureGroup::StreamEnd;
  using StreamLoss = CaptureGroup::StreamLoss;
  using Delivery = CaptureGroup::Delivery;

  FramePump(Backlog* backlog, const SpoolOwner& owner, const CaptureGroup::Options& options);
  ~FramePump();

  void record_published() {
    if (asleep_.load(std::memory_order_seq_cst)) wake();
  }
  /// The records of a generation end at `position`.
  void stream_ended(uint64_t position, const StreamEnd& end);

  /// Frames are `epoch`'s from now on.
  void set_epoch(uint64_t epoch);
  /// Records published from now on belong to the next generation.
  void generation_began(uint64_t epoch);
  /// Frames of all records after `after_lsn`. Returns when nothing before it is read any more.
  void start(uint64_t after_lsn, uint32_t link);
  /// The backlog has found what it awaited. Any thread.
  void spool_found();
  void stop();  // returns when nothing is read any more
  /// Forgets all stream ends: what they end was abandoned. Only while stopped.
  void forget_stream_ends();
  std::optional<Delivery> next();
  void set_on_ready(std::function<void()> on_ready);
  void release_frame(uint32_t pool_index);
  /// Returns when the thread has ended: the ring is read no more. Only release_frame() may follow.
  void end();
  std::shared_ptr<std::byte[]> pool() const { return pool_; }

 private:
  struct Ending {
    uint64_t position = 0;
    StreamEnd end;
    bool superseded = false;  // a later generation has begun
    bool queued = false;      // in this session
  };
  using Lock = std::unique_lock<std::mutex>;

  void run();
  void begin_session(Lock& lock);
  void sleep_until_published(Lock& lock);
  void linger(Lock& lock);
  /// Until `age_ns` after `published_ns`, unless something else is to be done first. The age then.
  uint64_t wait_for_age(Lock& lock, uint64_t published_ns, uint64_t age_ns);
  void build_frame(Lock& lock);
  std::optional<Delivery> fill_frame(uint32_t pool_index, uint64_t epoch);
  std::optional<Delivery> fill_from_ring(uint32_t pool_index, uint64_t epoch);
  std::optional<Delivery> fill_from_spool(const SpooledFile& file, uint32_t pool_index, uint64_t epoch);
  template <typename Next>
  std::optional<Delivery> fill(const RingRecord* record, Next next, uint32_t pool_index, uint64_t epoch);
  void deliver(Lock& lock, const Delivery& delivery);
  Ending* pending_ending();
  Ending* reached_ending();  // all records before it have been framed
  bool is_interrupted() const;
  void place();
  void wake();
  std::byte* frame_bytes(uint32_t pool_index) const;

  Backlog& backlog_;
  const CaptureGroup::Options options_;

  // The pump thread's own.
  uint64_t session_seen_ = 0;
  uint64_t position_ = 0;
  uint64_t after_lsn_ = 0;
  uint32_t link_ = 0;
  SpoolFileReader spool_;
  FrameBuilder::Stream stream_;
  std::unique_ptr<FrameBuilder> builder_;
  std::unique_ptr<RunQueue> run_queue_;

  std::atomic<bool> asleep_{false};   // until a record is published
  std::atomic<uint64_t> session_{0};  // raised by start() and stop()
  std::mutex mutex_;                  // what follows
  std::condition_variable changed_;   // for the pump
  std::condition_variable idle_;      // for start() and stop()
  bool stopping_ = false;
  bool shipping_ = false;
  bool building_ = false;
  bool waiting_ = false;         // next() returned nothing and on_ready is owed
  uint64_t start_position_ = 0;  // kNowhere: it is awaited
  uint64_t start_after_lsn_ = 0;
  uint32_t start_link_ = 0;
  uint64_t epoch_ = 0;
  std::deque<Ending> endings_;  // of generations whose records may still be in the backlog
  std::deque<Delivery> ready_;  // at most kFramePoolCount frames, and endings
  std::vector<uint32_t> free_;  // pool indices
  std::array<bool, kFramePoolCount> lent_{};

  std::mutex on_ready_mutex_;  // held during the call
  std::function<void()> on_ready_;

  const std::shared_ptr<std::byte[]> pool_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace afterimage
