// JournalHistory: a seeded random history of two volumes, as frames to be journaled, and the oracle of what
// every volume holds at every LSN of it: a plain array to which the steps are applied one by one. The oracle
// reads neither frames nor files.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "journal/frame.h"
#include "journal/journal_writer.h"
#include "journal/segment.h"

namespace afterimage {

using Bytes = std::vector<std::byte>;
using Random = std::mt19937_64;

/// ThreadSanitizer makes bulk copies a hundred times slower: what only one thread does is sampled there.
#ifdef __SANITIZE_THREAD__
constexpr bool kIsSampled = true;
#else
constexpr bool kIsSampled = false;
#endif

struct HistoryFrame {
  std::vector<uint64_t> words;  // 8-byte aligned
  FrameHeader header{};
  std::byte* data() { return reinterpret_cast<std::byte*>(words.data()); }
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(words.data()); }
  uint64_t bytes() const { return header.frame_bytes; }
};

struct HistoryStep {
  uint64_t lsn = 0;
  FrameBuilder::Record record;
  Bytes payload;
};

struct HistoryGeneration {
  uint64_t epoch = 0;
  uint64_t generation = 0;
  uint64_t first_lsn = 0;
  std::vector<SegmentVolume> volumes;
  std::vector<HistoryFrame> frames;
};

struct JournalHistory {
  struct Options {
    uint64_t seed = 1;
    uint32_t generations = 2;
    uint64_t generation_bytes = 3u << 20;  // of payload, about
    uint32_t record_bytes_max = kRecordBytesMax;
    uint64_t frame_raw_bytes = 600u << 10;  // a frame is sealed somewhere below
    bool resizes = true;
  };
  explicit JournalHistory(const Options& options);

  /// The volume after step `steps[0] … steps[count - 1]`; `size` follows it. `image` begins as zeroes of
  /// image_bytes().
  void apply(const HistoryStep& step, uint16_t volume, Bytes* image, uint64_t* size) const;
  uint64_t image_bytes(uint16_t volume) const { return volume == 3 ? 5u << 20 : (2u << 20) + 3 * 512; }
  const SegmentVolume& volume(uint16_t number) const;

  Uuid group{1, 2, 3};
  Uuid member{4, 5, 6};
  std::vector<HistoryGeneration> generations;
  std::vector<HistoryStep> steps;  // of all generations, by LSN
};

/// One frame of these records; payload bytes are drawn from `random`.
HistoryFrame make_frame(const FrameBuilder::Stream& stream, uint64_t first_lsn, uint32_t link,
                        const std::vector<FrameBuilder::Record>& records, Random& random, uint32_t era = 1);

/// The journal of a history on disk.
struct WrittenJournal {
  std::map<uint64_t, SegmentInfo> segments;  // by first LSN
  void note(const std::vector<SegmentInfo>& changed);
};
/// Appends a whole history to an empty directory; of the smallest segments. Throws std::runtime_error if
/// anything is refused.
WrittenJournal write_journal(const JournalHistory& history, const std::string& directory);

Bytes read_file(const std::string& path);
void write_file(const std::string& path, std::span<const std::byte> bytes);
/// `mask` thins out the bits of each 8 bytes.
Bytes random_bytes(Random& random, uint64_t length, uint64_t mask = UINT64_MAX);
/// Index of the first difference within `length` bytes, or -1.
int64_t first_difference(const Bytes& a, const Bytes& b, uint64_t length);

}  // namespace afterimage
