// FrameCache: what a reader of the journal has just used: parsed tables of frames and decompressed chunks,
// each checked when it is loaded. Bounded; the least recently used go first.
//
// Threads: any. The mutex is not held during I/O or decompression; two threads that miss the same thing both
// load it. Ownership: what is returned stays valid for as long as it is held, also after it left the cache.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "journal/frame.h"
#include "os/result.h"

namespace afterimage {

constexpr uint32_t kCachedFramesMax = 64;   // tables: at most 130 KiB each
constexpr uint32_t kCachedChunksMax = 128;  // at most 64 KiB each
constexpr uint32_t kSegmentNumbersMax = 1u << 18;

struct FrameTables {
  std::vector<std::byte> bytes;  // header and tables
  FrameView view;                // into `bytes`, without payload
};

class FrameCache {
 public:
  using Chunk = std::vector<std::byte>;
  struct Place {       // a frame
    int fd;            // of the segment; borrowed
    uint32_t segment;  // its number in this cache, below kSegmentNumbersMax
    uint64_t offset;   // of the frame in it, a multiple of 8
    uint64_t end;      // the used bytes of the segment end here
  };

  /// Errors: FRAME_CORRUPT, FRAME_TRUNCATED, FRAME_VERSION, IO_ERROR.
  Result<std::shared_ptr<const FrameTables>> tables(const Place& place);
  /// One chunk of that frame, decompressed. Errors: FRAME_CORRUPT, IO_ERROR.
  Result<std::shared_ptr<const Chunk>> chunk(const Place& place, const FrameTables& tables, size_t index);

 private:
  template <typename Value>
  class Recent {
   public:
    explicit Recent(size_t count_max) : count_max_(count_max) {}
    std::shared_ptr<const Value> find(uint64_t key);
    void keep(uint64_t key, std::shared_ptr<const Value> value);

   private:
    using Item = std::pair<uint64_t, std::shared_ptr<const Value>>;
    const size_t count_max_;
    std::mutex mutex_;
    std::list<Item> items_;  // most recently used first
    std::unordered_map<uint64_t, typename std::list<Item>::iterator> index_;
  };

  Recent<FrameTables> frames_{kCachedFramesMax};
  Recent<Chunk> chunks_{kCachedChunksMax};
};

}  // namespace afterimage
