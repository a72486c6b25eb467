#include "journal/frame_cache.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "journal/segment.h"
#include "os/file_io.h"

namespace afterimage {
namespace {

/// Header and tables of most frames: one system call.
constexpr uint64_t kReadAheadBytes = 16u << 10;
constexpr uint64_t kFrameBits = 23;
constexpr uint64_t kChunkBits = 6;
static_assert(kSegmentBytesMax / 8 <= 1ull << kFrameBits && kChunksPerFrameMax <= 1u << kChunkBits);

uint64_t key_of(const FrameCache::Place& place) {
  return uint64_t{place.segment} << kFrameBits | place.offset / 8;
}

/// Reads exactly [offset, offset + bytes), or fails.
Outcome read_fully(int fd, std::byte* into, uint64_t bytes, uint64_t offset) {
  uint64_t got = 0;
  if (const Errno error = read_at(fd, into, bytes, offset, &got))
    return system_error("IO_ERROR", "read segment", error);
  if (got < bytes) return Error{"FRAME_TRUNCATED", "frame: the segment ends within it"};
  return Nothing{};
}

}  // namespace

template <typename Value>
std::shared_ptr<const Value> FrameCache::Recent<Value>::find(uint64_t key) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  items_.splice(items_.begin(), items_, found->second);
  return found->second->second;
}

template <typename Value>
void FrameCache::Recent<Value>::keep(uint64_t key, std::shared_ptr<const Value> value) {
  const std::lock_guard lock(mutex_);
  if (index_.contains(key)) return;  // another thread was faster
  items_.emplace_front(key, std::move(value));
  index_.emplace(key, items_.begin());
  if (items_.size() <= count_max_) return;
  index_.erase(items_.back().first);
  items_.pop_back();
}

Result<std::shared_ptr<const FrameTables>> FrameCache::tables(const Place& place) {
  const uint64_t key = key_of(place);
  if (auto found = frames_.find(key)) return found;
  if (place.offset >= place.end || place.end - place.offset < sizeof(FrameHeader))
    return Error{"FRAME_TRUNCATED", "frame: the segment ends within it"};
  auto loaded = std::make_shared<FrameTables>();
  std::vector<std::byte>& bytes = loaded->bytes;
  bytes.resize(std::min(place.end - place.offset, kReadAheadBytes));
  if (Outcome read = read_fully(place.fd, bytes.data(), bytes.size(), place.offset); !read.ok())
    return read.error();
  const auto header = parse_frame_header(bytes);
  if (!header.ok()) return header.error();
  if (header->frame_bytes > place.end - place.offset)
    return Error{"FRAME_TRUNCATED", "frame: the segment ends within it"};
  const uint64_t wanted = sizeof(FrameHeader) + header->record_count * sizeof(RecordEntry) +
                          header->chunk_count * sizeof(ChunkEntry);
  const uint64_t got = std::min<uint64_t>(bytes.size(), wanted);
  bytes.resize(wanted);
  bytes.shrink_to_fit();
  if (Outcome read = read_fully(place.fd, bytes.data() + got, wanted - got, place.offset + got); !read.ok())
    return read.error();
  const auto view = parse_frame_tables(bytes);
  if (!view.ok()) return view.error();
  loaded->view = *view;
  loaded->view.payload = {};
  frames_.keep(key, loaded);
  return std::shared_ptr<const FrameTables>(std::move(loaded));
}

Result<std::shared_ptr<const FrameCache::Chunk>> FrameCache::chunk(const Place& place,
                                                                   const FrameTables& tables, size_t index) {
  const uint64_t key = key_of(place) << kChunkBits | index;
  if (auto found = chunks_.find(key)) return found;
  const ChunkEntry& entry = tables.view.chunks[index];
  std::vector<std::byte> stored(entry.stored_bytes & ~kChunkStoredRaw);
  const uint64_t at = place.offset + tables.bytes.size() + entry.stored_offset;
  if (Outcome read = read_fully(place.fd, stored.data(), stored.size(), at); !read.ok()) return read.error();
  auto loaded = std::make_shared<Chunk>(chunk_raw_bytes(tables.view, index));
  if (Outcome unpacked = unpack_chunk(tables.view, index, stored, loaded->data()); !unpacked.ok())
    return unpacked.error();
  chunks_.keep(key, loaded);
  return std::shared_ptr<const Chunk>(std::move(loaded));
}

}  // namespace afterimage
