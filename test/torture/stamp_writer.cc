// stamp-writer: many writers at once over the volumes of one group, fast enough to fill a round of torture.
//
//   stamp-writer --log FILE --seed N --writers N --rate WRITES_A_SECOND --first OPERATION TARGET…
//
// Every sector of 512 bytes that is written carries who wrote it, as in test/scenario/stamp_writer.py: magic,
// volume, sector, operation, then a filler, its exclusive or, and the operation again. About half of
// the operations are aimed at what another writer has in flight, or will have: those that keep time with each
// other make ready what they write before they wait for their moment. Runs until SIGTERM; says on standard
// output, a line each, how many writes were answered, and that of the whole group. An operation that fails is
// noted, and work goes on; what an NBD connection leaves unanswered when it breaks is sent again, but not
// after SIGTERM.
//
// The log is written at the end, 48 bytes an operation, little-endian: operation u64, submitted u64 and
// answered u64 (CLOCK_REALTIME, ns: just before and just after), offset u64, length u32, volume u16, kind u8
// (0 write, 1 trim, 2 zero, 3 flush), fua u8 (1: a write that asked for it), errno u32, zero u32.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "target.h"

namespace afterimage::torture {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kMagic = 0x504D4154534F4741;
constexpr size_t kWriteBytesMax = 1u << 20;
constexpr size_t kPageBytes = 4096;
constexpr unsigned kWritersMax = 64;
/// Writers that keep time with each other.
constexpr unsigned kAtOnce = 8;
/// That a writer makes up for.
constexpr int64_t kTurnsLateMax = 8;
/// Of a sector; the rest compresses to nothing.
constexpr size_t kFillerBytes = 240;

enum class Kind : uint8_t { kWrite = 0, kTrim = 1, kZero = 2, kFlush = 3 };

struct Record {
  uint64_t operation = 0;
  uint64_t submit_ns = 0;
  uint64_t answer_ns = 0;
  uint64_t offset = 0;
  uint32_t length = 0;
  uint16_t volume = 0;
  Kind kind{};
  uint8_t is_fua = 0;
  uint32_t error = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(Record) == 48, "read by stamp_writer.ts");

struct Extent {
  size_t volume = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

/// What a writer has in flight or made ready, and when it is its turn.
struct Announced {
  Extent extent{};
  int64_t turn = 0;
};

struct Operation {
  uint64_t number = 0;
  Kind kind{};
  Extent extent{};
  bool is_fua = false;
};

struct Options {
  std::string log{};
  uint64_t seed = 0;
  unsigned writers = 16;
  double rate = 3000;
  uint64_t first = 1;
  std::vector<std::string> targets{};
};

std::atomic<bool> stop{false};

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

/// What all writers share.
struct Load {
  explicit Load(const Options& options) : next_operation(options.first) {}

  std::atomic<uint64_t> next_operation;
  std::atomic<uint64_t> writes{0};
  std::mutex mutex{};
  std::array<std::optional<Announced>, kWritersMax> announced{};  // of each writer; under `mutex`
  const Clock::time_point begin = Clock::now();
};

class Writer {
 public:
  Writer(unsigned number, const Options& options, Load* load)
      : number_(number),
        options_(options),
        load_(load),
        random_(options.seed * 1000 + number),
        buffer_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kWriteBytesMax)), &std::free) {
    for (const std::string& name : options.targets) targets_.push_back(Target::open(name, stop));
  }

  void run() {
    const auto pause = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(options_.writers / options_.rate));
    const auto begin = load_->begin + pause * (number_ / kAtOnce * kAtOnce) / options_.writers;
    for (int64_t turn = 0; !stop; ++turn) {
      // After an outage nobody makes up for what was not written.
      turn = std::max<int64_t>(turn, (Clock::now() - begin) / pause - kTurnsLateMax);
      const Operation operation = make_ready(turn);
      std::this_thread::sleep_until(begin + pause * turn);
      if (carry_out(operation) != 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  const std::vector<Record>& records() const { return records_; }

 private:
  uint64_t below(uint64_t bound) { return random_() % bound; }
  bool chance(unsigned percent) { return below(100) < percent; }

  /// 512 B to 1 MiB, mostly small, as block traffic is.
  uint64_t length() {
    if (below(1000) < 12) return kSectorBytes << (7 + below(5));
    static constexpr std::array<unsigned, 11> kShifts{0, 0, 1, 2, 3, 3, 3, 3, 4, 5, 6};
    return kSectorBytes << kShifts[below(kShifts.size())];
  }

  /// What others announced for the same turn.
  std::vector<Extent> others(int64_t turn) {
    std::vector<Extent> found;
    const std::lock_guard lock(load_->mutex);
    const unsigned first = number_ / kAtOnce * kAtOnce;
    for (unsigned i = first; i < std::min(first + kAtOnce, options_.writers); ++i)
      if (const auto& other = load_->announced[i]; i != number_ && other && other->turn == turn)
        found.push_back(other->extent);
    return found;
  }

  Extent aim(int64_t turn) {
    Extent extent{.volume = below(targets_.size()), .length = length()};
    std::vector<Extent> aims;
    if (chance(75)) aims = others(turn);
    const Extent other = aims.empty() ? Extent{} : aims[below(aims.size())];
    if (!aims.empty()) extent.volume = other.volume;
    const uint64_t size = targets_[extent.volume]->size();
    int64_t sector = 0;
    if (!aims.empty()) {
      const uint64_t span = (other.length + extent.length) / kSectorBytes;
      sector = static_cast<int64_t>((other.offset + 1) / kSectorBytes + below(std::max<uint64_t>(span, 1))) -
               static_cast<int64_t>(extent.length / kSectorBytes);
    } else {
      // A hot spot, as every database has.
      sector = static_cast<int64_t>(chance(30) ? below(2048) : below(size / kSectorBytes));
    }
    const auto last = static_cast<int64_t>((size - extent.length) / kSectorBytes);
    extent.offset = static_cast<uint64_t>(std::clamp<int64_t>(sector, 0, last)) * kSectorBytes;
    return extent;
  }

  /// Stamped sectors. The filler is another one in each, so that the journal takes about half of what is
  /// written.
  void fill(const Extent& extent, uint64_t operation) {
    std::array<uint64_t, kFillerBytes / 8> filler{};
    std::mt19937_64 random(operation);
    for (uint64_t at = 0; at < extent.length; at += kSectorBytes) {
      uint64_t parity = 0;
      for (uint64_t& word : filler) parity ^= word = random();
      const std::array<uint64_t, 2> end{parity, operation};
      std::byte* const sector = buffer_.get() + at;
      const std::array<uint64_t, 4> stamp{kMagic, extent.volume, (extent.offset + at) / kSectorBytes,
                                          operation};
      std::memset(sector, 0, kSectorBytes);
      std::memcpy(sector, stamp.data(), sizeof stamp);
      std::memcpy(sector + sizeof stamp, filler.data(), sizeof filler);
      std::memcpy(sector + kSectorBytes - sizeof end, end.data(), sizeof end);
    }
  }

  Operation make_ready(int64_t turn) {
    Operation operation{.extent = aim(turn)};
    const uint64_t dice = below(100);
    operation.kind = dice < 88   ? Kind::kWrite
                     : dice < 92 ? Kind::kTrim
                     : dice < 96 ? Kind::kZero
                                 : Kind::kFlush;
    operation.is_fua = chance(5);
    operation.number = load_->next_operation.fetch_add(1);
    if (operation.kind != Kind::kFlush) announce({{.extent = operation.extent, .turn = turn}});
    if (operation.kind == Kind::kWrite) fill(operation.extent, operation.number);
    return operation;
  }

  Errno carry_out(const Operation& operation) {
    const auto& [number, kind, extent, is_fua] = operation;
    Record record{.operation = number,
                  .offset = kind == Kind::kFlush ? 0 : extent.offset,
                  .length = kind == Kind::kFlush ? 0 : static_cast<uint32_t>(extent.length),
                  .volume = static_cast<uint16_t>(extent.volume),
                  .kind = kind,
                  .is_fua = kind == Kind::kWrite && is_fua ? uint8_t{1} : uint8_t{0}};
    record.submit_ns = now_ns();
    record.error = static_cast<uint32_t>(request(operation));
    record.answer_ns = now_ns();
    announce(std::nullopt);
    records_.push_back(record);
    if (kind == Kind::kWrite && record.error == 0) ++load_->writes;
    return static_cast<Errno>(record.error);
  }

  Errno request(const Operation& operation) {
    const auto& [number, kind, extent, is_fua] = operation;
    Target& target = *targets_[extent.volume];
    switch (kind) {
      case Kind::kWrite:
        return target.write({buffer_.get(), extent.length}, extent.offset, is_fua);
      case Kind::kTrim:
        return target.trim(extent.offset, extent.length);
      case Kind::kZero:
        return target.zero(extent.offset, extent.length);
      case Kind::kFlush:
        return target.flush();
    }
    std::abort();
  }

  void announce(std::optional<Announced> announced) {
    const std::lock_guard lock(load_->mutex);
    load_->announced[number_] = announced;
  }

  const unsigned number_;
  const Options& options_;
  Load* const load_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Target>> targets_{};
  std::unique_ptr<std::byte, decltype(&std::free)> buffer_;
  std::vector<Record> records_{};
};

int run(const Options& options) {
  Load load(options);
  std::vector<std::unique_ptr<Writer>> writers;
  for (unsigned i = 0; i < options.writers; ++i)
    writers.push_back(std::make_unique<Writer>(i, options, &load));
  std::vector<std::thread> threads;
  for (auto& writer : writers) threads.emplace_back([&writer] { writer->run(); });
  while (!stop) {
    std::printf("%llu\n", static_cast<unsigned long long>(load.writes.load()));
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  for (auto& thread : threads) thread.join();
  FILE* const log = std::fopen(options.log.c_str(), "wb");
  bool is_written = log != nullptr;
  for (const auto& writer : writers)
    is_written = is_written && std::fwrite(writer->records().data(), sizeof(Record), writer->records().size(),
                                           log) == writer->records().size();
  if (!is_written || std::fclose(log) != 0) {
    std::perror("stamp-writer: the log");
    return 1;
  }
  return 0;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with("--")) {
      options.targets.emplace_back(word);
      continue;
    }
    if (++i == argc) break;
    if (word == "--log") options.log = argv[i];
    if (word == "--seed") options.seed = std::strtoull(argv[i], nullptr, 10);
    if (word == "--writers") options.writers = static_cast<unsigned>(std::strtoul(argv[i], nullptr, 10));
    if (word == "--rate") options.rate = std::strtod(argv[i], nullptr);
    if (word == "--first") options.first = std::strtoull(argv[i], nullptr, 10);
  }
  if (options.log.empty() || options.targets.empty() || options.writers == 0 ||
      options.writers > kWritersMax || !(options.rate > 0)) {
    std::fprintf(stderr, "stamp-writer: see the head of stamp_writer.cc\n");
    std::exit(2);
  }
  return options;
}

}  // namespace
}  // namespace afterimage::torture

int main(int argc, char** argv) {
  std::signal(SIGTERM, [](int) { afterimage::torture::stop = true; });
  std::signal(SIGPIPE, SIG_IGN);
  return afterimage::torture::run(afterimage::torture::parse(argc, argv));
}
