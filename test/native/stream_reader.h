// The other end of a CaptureGroup, for tests: pulls what it delivers, holds every frame to the promises of a
// stream, and replays the records into plain arrays, one after the other.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "capture/capture_group.h"

namespace afterimage {

struct StreamRecord {
  uint64_t lsn = 0;
  uint64_t generation = 0;
  uint32_t era = 0;
  RecordEntry entry{};
  std::vector<std::byte> payload;  // if asked for
  RecordKind kind() const { return static_cast<RecordKind>(entry.kind); }
};

class StreamReader {
 public:
  explicit StreamReader(CaptureGroup& group) : group_(group) {
    group_.set_on_ready([this] {
      const std::lock_guard lock(mutex_);
      ++calls_;
      ready_ = true;
      changed_.notify_all();
    });
  }
  ~StreamReader() { group_.set_on_ready(nullptr); }

  /// The next delivery; nothing if none comes for far longer than any should take.
  std::optional<CaptureGroup::Delivery> next(std::chrono::milliseconds patience = std::chrono::seconds(10)) {
    std::unique_lock lock(mutex_);
    ready_ = false;
    lock.unlock();
    if (auto delivery = group_.next()) return delivery;
    lock.lock();
    if (!changed_.wait_for(lock, patience, [this] { return ready_; })) return std::nullopt;
    lock.unlock();
    return group_.next();
  }

  /// Takes one delivery into account. False when none came.
  bool take(std::chrono::milliseconds patience = std::chrono::seconds(10)) {
    const auto delivery = next(patience);
    if (!delivery) return false;
    if (const auto* frame = std::get_if<CaptureGroup::Frame>(&*delivery)) {
      apply(*frame);
      group_.release_frame(frame->pool_index);
      if (releases) REQUIRE(group_.release(frame->header.last_lsn).ok());
    } else if (const auto* loss = std::get_if<CaptureGroup::StreamLoss>(&*delivery)) {
      losses.push_back(*loss);
    } else {
      ends.push_back(std::get<CaptureGroup::StreamEnd>(*delivery));
      CHECK(ends.back().last_lsn == last_lsn);
      link = 0;
    }
    return true;
  }
  void take_until(uint64_t lsn) {
    while (last_lsn < lsn) REQUIRE(take());
  }
  void take_until_end() {
    const size_t count = ends.size();
    while (ends.size() == count) REQUIRE(take());
  }
  /// How often on_ready was called.
  int calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  /// False when on_ready has not been called so often after far longer than it should take.
  bool has_been_called(int times) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return calls_ >= times; });
  }

  /// What start_shipping() will redeliver: everything after `durable_lsn`, which is of generation
  /// `in_generation`.
  void rewind(uint64_t durable_lsn, uint32_t durable_link, uint64_t in_generation) {
    generation = in_generation;
    last_lsn = durable_lsn;
    link = durable_link;
    last_time_ns = 0;
  }

  void apply(const CaptureGroup::Frame& frame) {
    const auto verified = verify_frame({frame.bytes, frame.header.frame_bytes});
    REQUIRE_MESSAGE(verified.ok(), (verified.ok() ? "" : verified.error().message));
    const FrameView& view = *verified;
    REQUIRE(std::memcmp(view.header, &frame.header, sizeof frame.header) == 0);
    ++frames;
    REQUIRE(view.header->link == link);
    link = view.header->header_crc32c;
    if (view.header->generation == generation) REQUIRE(view.header->first_lsn == last_lsn + 1);
    REQUIRE(view.header->first_lsn > last_lsn);
    if (view.header->era != era || view.header->generation != generation) last_time_ns = 0;
    generation = view.header->generation;
    era = view.header->era;

    std::vector<std::byte> raw(view.header->raw_bytes);
    for (size_t i = 0; i < view.chunks.size(); ++i) {
      const ChunkEntry& chunk = view.chunks[i];
      const auto stored = view.payload.subspan(chunk.stored_offset, chunk.stored_bytes & ~kChunkStoredRaw);
      REQUIRE(unpack_chunk(view, i, stored, raw.data() + chunk.raw_offset).ok());
    }
    for (const RecordEntry& entry : view.records) {
      REQUIRE(entry.time_ns > last_time_ns);
      last_time_ns = entry.time_ns;
      StreamRecord record{
          .lsn = ++last_lsn, .generation = generation, .era = era, .entry = entry, .payload = {}};
      if (&entry == &view.records.front()) record.lsn = last_lsn = view.header->first_lsn;
      replay(entry, raw.data() + entry.payload_offset);
      if (keeps_payload)
        record.payload.assign(raw.data() + entry.payload_offset,
                              raw.data() + entry.payload_offset + payload_bytes(entry));
      records.push_back(std::move(record));
    }
  }

  bool releases = true;  // acknowledges every frame at once
  bool keeps_payload = false;
  std::map<uint16_t, std::vector<std::byte>> images;  // by volume; made by the test, replayed into here
  std::vector<StreamRecord> records;
  std::vector<CaptureGroup::StreamEnd> ends;
  std::vector<CaptureGroup::StreamLoss> losses;
  uint64_t frames = 0;
  uint64_t last_lsn = 0;
  uint64_t last_time_ns = 0;
  uint64_t generation = 0;
  uint32_t era = 0;
  uint32_t link = 0;

 private:
  static uint32_t payload_bytes(const RecordEntry& entry) {
    return static_cast<RecordKind>(entry.kind) == RecordKind::kWrite ? entry.length : 0;
  }
  void replay(const RecordEntry& entry, const std::byte* payload) {
    const auto image = images.find(entry.volume);
    if (image == images.end() || entry.length == 0) return;
    REQUIRE(entry.offset + entry.length <= image->second.size());
    if (payload_bytes(entry) > 0) {
      std::memcpy(image->second.data() + entry.offset, payload, entry.length);
    } else {
      std::memset(image->second.data() + entry.offset, 0, entry.length);
    }
  }

  CaptureGroup& group_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  int calls_ = 0;
};

}  // namespace afterimage
