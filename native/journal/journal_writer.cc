#include "journal/journal_writer.h"

#include <dirent.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "journal/segment_cursor.h"
#include "os/crc32c.h"
#include "os/io_thread.h"

namespace afterimage {
namespace {

static_assert(kSegmentHeaderBytes + kFrameBytesMax < kSegmentBytesMin, "any frame fits into a new segment");
static_assert(kQueuedFramesMax <= 1024, "IOV_MAX: one call takes a whole group commit");

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

Error stopped() { return Error{"JOURNAL_STOPPED", "an earlier frame was refused"}; }

/// Path of the segment that holds `lsn`, if one does: the last that begins at or before it. "" if there is
/// none. Errors: JOURNAL_IO.
Result<std::string> segment_of(const std::string& directory, uint64_t lsn) {
  const std::string until = segment_path(directory, lsn);
  std::string last;
  DIR* open = ::opendir(directory.c_str());
  if (open == nullptr) return system_error("JOURNAL_IO", "open " + directory, errno);
  while (const dirent* entry = ::readdir(open)) {
    const std::string path = directory + "/" + entry->d_name;
    if (path.size() == until.size() && path.ends_with(".seg") && path <= until && path > last) last = path;
  }
  ::closedir(open);
  return last;
}

}  // namespace

JournalWriter::JournalWriter(const Options& options)
    : options_(options),
      file_(options.file != nullptr ? options.file : &JournalFile::system()),
      unpacked_(std::make_unique_for_overwrite<std::byte[]>(kChunkRawBytesMax)) {}

Result<std::unique_ptr<JournalWriter>> JournalWriter::open(const Options& options, const Position& position,
                                                           const SegmentInfo* tail) {
  if (options.segment_bytes < kSegmentBytesMin || options.segment_bytes > kSegmentBytesMax)
    return Error{"JOURNAL_IO", "segment size out of range"};
  std::unique_ptr<JournalWriter> writer(new JournalWriter(options));
  if (Outcome opened = writer->open_at(position, tail); !opened.ok()) return opened.error();
  writer->thread_ = std::thread([raw = writer.get()] { raw->run(); });
  return writer;
}

Outcome JournalWriter::open_at(const Position& position, const SegmentInfo* tail) {
  durable_.epoch = position.epoch;
  durable_.generation = position.generation;
  durable_.last_lsn = position.last_lsn;
  durable_.link = position.link;
  if (tail == nullptr) return take_volumes_of_last_segment();

  auto opened = SegmentCursor::open(tail->path, SegmentCursor::Depth::kTables, tail->bytes);
  if (!opened.ok()) return Error{"JOURNAL_IO", opened.error().message, opened.error().sys};
  SegmentCursor& cursor = **opened;
  const SegmentHeader& header = cursor.header();
  durable_.volumes = VolumeTable({header.volumes, header.volume_count});
  SegmentInfo found{.path = tail->path,
                    .generation = header.generation,
                    .first_lsn = header.first_lsn,
                    .last_lsn = header.first_lsn - 1,
                    .bytes = kSegmentHeaderBytes,
                    .link = header.link};
  for (;;) {
    const auto more = cursor.next();
    if (!more.ok()) return Error{"JOURNAL_IO", more.error().message, more.error().sys};
    if (!*more || durable_.volumes.apply(cursor.frame().records) != nullptr) break;
    extend(&found, *cursor.frame().header);
  }
  durable_.era = found.last_era;
  durable_.last_time_ns = found.last_time_ns;
  if (header.group != options_.group || header.member != options_.member || found.bytes != tail->bytes ||
      found.generation != position.generation || found.last_lsn != position.last_lsn ||
      found.link != position.link)
    return Error{"JOURNAL_IO", tail->path + " does not end at the position given"};
  auto segment = SegmentAppender::reopen(file_, found, {options_.segment_bytes, options_.headroom_bytes});
  if (segment.ok()) {
    segment_ = std::move(*segment);
  } else if (std::strcmp(segment.error().code, "JOURNAL_FULL") == 0) {
    found.sealed = true;  // the next frame begins a segment, or reports that the disk is full
    if (found.frames > 0) sealed_.push_back(found);
  } else {
    return segment.error();
  }
  return Nothing{};
}

Outcome JournalWriter::take_volumes_of_last_segment() {
  const auto path = segment_of(options_.directory, durable_.last_lsn);
  if (!path.ok()) return path.error();
  if (path->empty()) return Nothing{};
  const auto scan = scan_segment(*path, false);
  const bool unread = !scan.ok() && (std::strcmp(scan.error().code, "IO_ERROR") == 0 ||
                                     std::strcmp(scan.error().code, "PERMISSION_DENIED") == 0);
  if (unread) return Error{"JOURNAL_IO", scan.error().message, scan.error().sys};
  // Another generation: begin_generation() will bring the volumes.
  if (!scan.ok() || scan->info.generation != durable_.generation || scan->info.last_lsn != durable_.last_lsn)
    return Nothing{};
  durable_.volumes = VolumeTable(scan->volumes);
  durable_.era = scan->info.last_era;
  durable_.last_time_ns = scan->info.last_time_ns;
  return Nothing{};
}

JournalWriter::~JournalWriter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void JournalWriter::enqueue(Task task) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void JournalWriter::append(const std::byte* frame, uint64_t bytes, Completion completion) {
  bool is_overload = false;
  {
    const std::lock_guard lock(mutex_);
    is_overload = outstanding_ == kQueuedFramesMax;
    if (!is_overload) ++outstanding_;
  }
  if (is_overload) return completion(Error{"JOURNAL_OVERLOAD", "more frames queued than the writer takes"});
  enqueue(Frame{.bytes = {frame, bytes}, .completion = std::move(completion)});
}

void JournalWriter::resume(uint64_t epoch) { enqueue(Session{epoch}); }

void JournalWriter::begin_generation(uint64_t epoch, uint64_t generation, uint64_t first_lsn,
                                     std::vector<SegmentVolume> volumes, Completion completion) {
  enqueue(Generation{.epoch = epoch,
                     .generation = generation,
                     .first_lsn = first_lsn,
                     .volumes = std::move(volumes),
                     .completion = std::move(completion)});
}

JournalWriter::Position JournalWriter::position() const {
  const std::lock_guard lock(mutex_);
  return {.epoch = durable_.epoch,
          .generation = durable_.generation,
          .last_lsn = durable_.last_lsn,
          .link = durable_.link};
}

void JournalWriter::set_durable(const StreamPosition& position) {
  const std::lock_guard lock(mutex_);
  durable_ = position;
}

void JournalWriter::run() {
  enter_thread("journal-writer");
  for (;;) {
    std::deque<Task> tasks;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return is_closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      tasks.swap(queue_);
    }
    process(&tasks);
  }
}

void JournalWriter::process(std::deque<Task>* tasks) {
  while (!tasks->empty()) {
    if (std::holds_alternative<Frame>(tasks->front())) {
      process_frames(tasks);
      continue;
    }
    if (const auto* session = std::get_if<Session>(&tasks->front())) start_session(*session);
    if (const auto* generation = std::get_if<Generation>(&tasks->front())) start_generation(*generation);
    tasks->pop_front();
  }
}

Outcome JournalWriter::verify(std::span<const std::byte> bytes, StreamPosition* position,
                              FrameHeader* header) const {
  if (broken_) return *broken_;
  if (is_stopped_) return stopped();
  const auto frame = verify_frame(bytes);
  if (!frame.ok()) return frame.error();
  // Acknowledged, it would be found by whoever needs the point, and by nobody before.
  if (Outcome unpacked = unpack_all(*frame, unpacked_.get()); !unpacked.ok()) return unpacked;
  *header = *frame->header;
  if (header->group != options_.group || header->member != options_.member)
    return Error{"FRAME_FOREIGN", "frame: of another group or member"};
  return position->follow(*frame);
}

void JournalWriter::process_frames(std::deque<Task>* tasks) {
  StreamPosition position = durable_;
  std::vector<FrameHeader> headers;
  std::vector<Frame> frames;
  uint64_t bytes = 0;
  std::optional<Error> refusal;
  while (!tasks->empty() && std::holds_alternative<Frame>(tasks->front())) {
    FrameHeader header;
    StreamPosition next = position;
    const Outcome verified = verify(std::get<Frame>(tasks->front()).bytes, &next, &header);
    if (!verified.ok()) {
      refusal = verified.error();
      break;
    }
    if (segment_ && !segment_->fits(bytes + header.frame_bytes)) {
      if (!frames.empty()) break;  // these first: the next round finds the segment full
      if (Outcome sealed = seal_segment(); !sealed.ok()) {
        fail(sealed.error());
        continue;
      }
    }
    if (!segment_) {
      if (Outcome begun = begin_segment(); !begun.ok()) {
        refusal = begun.error();
        break;
      }
    }
    position = next;
    bytes += header.frame_bytes;
    headers.push_back(header);
    frames.push_back(std::move(std::get<Frame>(tasks->front())));
    tasks->pop_front();
  }

  if (!frames.empty()) {
#ifdef AFTERIMAGE_SABOTAGE_ACK_BEFORE_DURABLE  // breaks R4: acknowledged first, written 20 ms later
    std::vector<std::vector<std::byte>> kept;  // the caller's bytes are gone once they are acknowledged
    static thread_local decltype(Appended::changed) changed;  // told with the next
    for (Frame& frame : frames) {
      kept.emplace_back(frame.bytes.begin(), frame.bytes.end());
      frame.completion(Appended{.durable_lsn = position.last_lsn, .changed = std::exchange(changed, {})});
      frame = {.bytes = kept.back(), .completion = [](const Result<Appended>& written) {
                 if (written.ok())
                   changed.insert(changed.end(), written->changed.begin(), written->changed.end());
               }};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
#endif
    complete(frames, commit(headers, frames), position);
  }
  if (refusal) {
    fail(*refusal);
    const Frame refused = std::move(std::get<Frame>(tasks->front()));
    tasks->pop_front();
    finish(refused.completion, *refusal);
  }
}

void JournalWriter::complete(std::span<const Frame> frames, const Outcome& committed,
                             const StreamPosition& position) {
  if (committed.ok()) {
    set_durable(position);
    Result<Appended> result = appended();
    for (const Frame& frame : frames) {
      finish(frame.completion, result);
      result->changed.clear();
    }
    return;
  }
  fail(committed.error());
  Error error = committed.error();
  for (const Frame& frame : frames) {
    finish(frame.completion, error);
    error = broken_ ? *broken_ : stopped();
  }
}

Outcome JournalWriter::commit(std::span<const FrameHeader> headers, std::span<const Frame> frames) {
  std::vector<iovec> pieces;
  for (const Frame& frame : frames)
    pieces.push_back({.iov_base = const_cast<std::byte*>(frame.bytes.data()), .iov_len = frame.bytes.size()});
  return segment_->append(headers, pieces);
}

Outcome JournalWriter::begin_segment() {
  SegmentHeader header{};
  std::memcpy(header.magic, kSegmentMagic, sizeof(kSegmentMagic));
  header.version = 1;
  header.header_bytes = kSegmentHeaderBytes;
  header.group = options_.group;
  header.member = options_.member;
  header.generation = durable_.generation;
  header.first_lsn = durable_.last_lsn + 1;
  header.link = durable_.link;
  header.created_ns = now_ns();
  const auto volumes = durable_.volumes.list();
  header.volume_count = static_cast<uint32_t>(volumes.size());
  std::copy(volumes.begin(), volumes.end(), header.volumes);
  if (volumes.empty()) return Error{"RECORD_INVALID", "frame: of a generation whose volumes are not known"};
  header.header_crc32c = crc32c(&header, offsetof(SegmentHeader, header_crc32c));
  auto created = SegmentAppender::create(file_, options_.directory, header,
                                         {options_.segment_bytes, options_.headroom_bytes});
  if (!created.ok()) return created.error();
  segment_ = std::move(*created);
  return Nothing{};
}

Outcome JournalWriter::seal_segment() {
  Outcome sealed = segment_->seal();
  if (sealed.ok() && segment_->info().frames > 0) sealed_.push_back(segment_->info());
  if (sealed.ok()) segment_.reset();
  return sealed;
}

void JournalWriter::fail(const Error& error) {
  is_stopped_ = true;
  if (std::strcmp(error.code, "JOURNAL_FULL") == 0 && segment_) {
    if (const Outcome sealed = seal_segment(); !sealed.ok()) fail(sealed.error());
  } else if (std::strcmp(error.code, "JOURNAL_IO") == 0) {
    if (!broken_) broken_ = error;
    if (segment_) segment_->abandon();
    segment_.reset();
  }
}

void JournalWriter::start_session(const Session& session) {
  if (session.epoch < durable_.epoch) {
    is_stopped_ = true;
    return;
  }
  StreamPosition position = durable_;
  position.epoch = session.epoch;
  set_durable(position);
  is_stopped_ = false;
}

void JournalWriter::start_generation(const Generation& generation) {
  const auto begin = [&]() -> Outcome {
    if (broken_) return *broken_;
    if (is_stopped_) return stopped();
    StreamPosition position = durable_;
    if (Outcome begun = position.begin_generation(generation.epoch, generation.generation,
                                                  generation.first_lsn, generation.volumes);
        !begun.ok())
      return begun;
    if (segment_) {
      if (Outcome sealed = seal_segment(); !sealed.ok()) {
        fail(sealed.error());
        return sealed;
      }
    }
#ifdef AFTERIMAGE_SABOTAGE_GENERATION_DROPS_HISTORY  // breaks R6: a new generation throws away the one before
                                                     // it
    for (const SegmentInfo& segment : sealed_) ::unlink(segment.path.c_str());
#endif
    set_durable(position);
    return Nothing{};
  };
  const Outcome begun = begin();
  generation.completion(begun.ok() ? appended() : Result<Appended>(begun.error()));
}

Result<JournalWriter::Appended> JournalWriter::appended() {
  Appended appended{.durable_lsn = durable_.last_lsn, .changed = std::move(sealed_)};
  sealed_.clear();
  if (segment_) appended.changed.push_back(segment_->info());
  return appended;
}

void JournalWriter::finish(const Completion& completion, Result<Appended> result) {
  {
    const std::lock_guard lock(mutex_);
    --outstanding_;
  }
  completion(std::move(result));
}

}  // namespace afterimage
