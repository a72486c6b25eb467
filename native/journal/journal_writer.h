// JournalWriter: appends one member's frames to its journal, and says when they are durable (R4). Verifies
// every frame in full before anything of it reaches the disk (R5).
//
// Threads: append(), resume() and begin_generation() from one control thread; position() from any. The work
// is done on the writer's own thread; completions are called there, in the order of the calls. Ownership:
// append() borrows the frame's bytes, which begin at a multiple of 8, until its completion is called.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "journal/segment.h"
#include "journal/segment_appender.h"
#include "journal/stream_position.h"

namespace afterimage {

constexpr uint32_t kQueuedFramesMax = 64;  // given to append() and not yet completed

class JournalWriter {
 public:
  struct Options {
    std::string directory;  // exists
    Uuid group{};
    Uuid member{};
    uint64_t segment_bytes = kSegmentBytesDefault;  // kSegmentBytesMin…kSegmentBytesMax
    uint64_t headroom_bytes = 0;                    // as SegmentRoom
    JournalFile* file = nullptr;                    // null: the system's; else outlives the writer
  };
  struct Position {  // what must come next
    uint64_t epoch = 0;
    uint64_t generation = 0;
    uint64_t last_lsn = 0;  // of the journal; the next frame begins at last_lsn + 1
    uint32_t link = 0;      // of the last frame in this generation, 0 if none
  };
  struct Appended {
    uint64_t durable_lsn = 0;  // everything up to here is on stable storage (R4)
    std::vector<SegmentInfo>
        changed;  // segments sealed and the one written to since the last completion that named
                  // any: with the first frame of a group commit, so that a catalog is ahead of acks
  };
  using Completion = std::function<void(Result<Appended>)>;

  /// Opens the journal for appending after `position`. `tail` is the unsealed last segment (from
  /// scan_segment, its torn tail already decided on and cut at tail.bytes) or null to begin a new one with
  /// the first frame; the volumes are then those at the end of the directory's last segment, if that is where
  /// `position` stands. Errors: JOURNAL_IO.
  static Result<std::unique_ptr<JournalWriter>> open(const Options& options, const Position& position,
                                                     const SegmentInfo* tail);
  ~JournalWriter();  // completes what was queued, seals nothing

  /// Queues a frame. It is verified in full on the writer's thread and must continue the stream exactly:
  /// FRAME_CORRUPT, FRAME_TRUNCATED, FRAME_VERSION, FRAME_FOREIGN (group or member), FRAME_FENCED (epoch),
  /// FRAME_GENERATION, FRAME_REPEATED (LSN at or before the last), FRAME_GAP (LSN beyond the next),
  /// FRAME_LINK, RECORD_INVALID (a volume that the segment lacks, a range beyond its size). A refused frame
  /// leaves the journal as it was; those queued behind it are refused with JOURNAL_STOPPED until resume() is
  /// called. JOURNAL_FULL (ENOSPC, EDQUOT): likewise, after cutting back to the last durable byte.
  /// JOURNAL_IO: likewise, and for ever: the journal must be opened anew. JOURNAL_OVERLOAD: more than
  /// kQueuedFramesMax; the completion is called before append() returns. Completions are called in order,
  /// once the frame is durable; one fdatasync serves all frames of a group commit.
  void append(const std::byte* frame, uint64_t bytes, Completion completion);

  /// Starts a new session at the present position (clears JOURNAL_STOPPED), with the writer's new epoch,
  /// behind all that was queued before. An epoch below the present one leaves the writer stopped.
  void resume(uint64_t epoch);
  /// Seals the current segment and begins generation `generation` at `first_lsn` with these volumes; the new
  /// segment is created with its first frame. Errors: FRAME_FENCED, FRAME_GENERATION, FRAME_REPEATED,
  /// RECORD_INVALID, JOURNAL_STOPPED, JOURNAL_IO.
  void begin_generation(uint64_t epoch, uint64_t generation, uint64_t first_lsn,
                        std::vector<SegmentVolume> volumes, Completion completion);
  Position position() const;  // of the durable end

 private:
  struct Frame {
    std::span<const std::byte> bytes;
    Completion completion;
  };
  struct Session {
    uint64_t epoch;
  };
  struct Generation {
    uint64_t epoch, generation, first_lsn;
    std::vector<SegmentVolume> volumes;
    Completion completion;
  };
  using Task = std::variant<Frame, Session, Generation>;

  explicit JournalWriter(const Options& options);
  Outcome open_at(const Position& position, const SegmentInfo* tail);
  Outcome take_volumes_of_last_segment();
  void enqueue(Task task);

  // On the writer's thread:
  void run();
  void process(std::deque<Task>* tasks);
  /// Verifies and commits as many frames from the front as one segment takes, or refuses the first.
  void process_frames(std::deque<Task>* tasks);
  void start_session(const Session& session);
  void start_generation(const Generation& generation);
  Outcome verify(std::span<const std::byte> bytes, StreamPosition* position, FrameHeader* header) const;
  Outcome commit(std::span<const FrameHeader> headers, std::span<const Frame> frames);
  void complete(std::span<const Frame> frames, const Outcome& committed, const StreamPosition& position);
  Outcome seal_segment();
  Outcome begin_segment();
  void fail(const Error& error);
  void finish(const Completion& completion, Result<Appended> result);
  Result<Appended> appended();
  void set_durable(const StreamPosition& position);

  const Options options_;
  JournalFile* const file_;

  // Of the writer's thread alone:
  std::unique_ptr<SegmentAppender> segment_;  // null: the next frame begins a new one
  std::vector<SegmentInfo> sealed_;           // not yet reported
  bool is_stopped_ = false;
  std::optional<Error> broken_;                  // JOURNAL_IO, until reopened
  const std::unique_ptr<std::byte[]> unpacked_;  // a chunk that is looked at

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  StreamPosition durable_;  // written by the writer's thread, under the mutex
  std::deque<Task> queue_;
  uint32_t outstanding_ = 0;  // frames
  bool is_closing_ = false;
  std::thread thread_;  // last: everything else exists when it starts
};

}  // namespace afterimage
