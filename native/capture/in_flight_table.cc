#include "capture/in_flight_table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <string>

#include "os/pinned_memory.h"

namespace afterimage {
namespace {

constexpr uint64_t kMagic = 0x54464e49'49465441;  // "ATFIINFT"
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

Error unavailable(const char* what) {
  return system_error("RING_UNAVAILABLE", std::string("writes in flight: ") + what, errno);
}
Error other(const char* what) {
  return Error{"RING_LAYOUT", std::string("an inherited table of writes in flight: ") + what};
}

/// Each thread begins its search elsewhere, and mostly finds its own slot of the last time.
uint32_t first_choice() {
  static std::atomic<uint32_t> threads{0};
  thread_local const uint32_t mine = threads.fetch_add(1, std::memory_order_relaxed) % kInFlightMax;
  return mine;
}

}  // namespace

InFlightTable::InFlightTable(Fd memfd, void* mapping)
    : memfd_(std::move(memfd)),
      header_(static_cast<Header*>(mapping)),
      slots_(reinterpret_cast<Slot*>(static_cast<std::byte*>(mapping) + sizeof(Header))) {}

InFlightTable::~InFlightTable() { ::munmap(header_, kBytes); }

Result<void*> InFlightTable::map(const Fd& memfd) {
  void* const mapping =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd.get(), 0);
  if (mapping == MAP_FAILED) return unavailable("mmap");
  pin_memory(mapping, kBytes);
  return mapping;
}

Result<std::unique_ptr<InFlightTable>> InFlightTable::create() {
  Fd memfd(::memfd_create("afterimage-in-flight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return unavailable("memfd_create");
  errno = ::posix_fallocate(memfd.get(), 0, kBytes);
  if (errno != 0) return unavailable("allocation");
  if (::fcntl(memfd.get(), F_ADD_SEALS, kSeals) != 0) return unavailable("seals");
  const auto mapping = map(memfd);
  if (!mapping.ok()) return mapping.error();
  new (*mapping)
      Header{kMagic, kInFlightLayoutVersion, kInFlightMax, {0}, {0}};  // slots of zero bytes are free
  return std::unique_ptr<InFlightTable>(new InFlightTable(std::move(memfd), *mapping));
}

Result<std::unique_ptr<InFlightTable>> InFlightTable::adopt(Fd memfd) {
  struct stat status {};
  // Without the seals whoever else has it could cut it shorter under the mapping.
  if (::fstat(memfd.get(), &status) != 0 || (::fcntl(memfd.get(), F_GET_SEALS) & kSeals) != kSeals ||
      static_cast<uint64_t>(status.st_size) != kBytes)
    return other("no such memfd");
  const auto mapping = map(memfd);
  if (!mapping.ok()) return mapping.error();
  std::unique_ptr<InFlightTable> table(new InFlightTable(std::move(memfd), *mapping));
  Header& header = *table->header_;
  if (header.magic != kMagic || header.version < kInFlightLayoutVersionMin ||
      header.version > kInFlightLayoutVersion || header.count != kInFlightMax)
    return other("of another layout");
  header.version = kInFlightLayoutVersion;  // the bytes of what was added were zero
  return table;
}

InFlightTable::Left InFlightTable::left() const {
  Left left{{}, header_->unlisted.load(std::memory_order_acquire) == 0};
  for (uint32_t i = 0; i < kInFlightMax; ++i) {
    const Slot& slot = slots_[i];
    // One that was only claimed was not being written yet.
    if (slot.state.load(std::memory_order_acquire) == Slot::kWriting)
      left.ranges.push_back({slot.begin, slot.end});
  }
  return left;
}

void InFlightTable::clear() {
  header_->unlisted.store(0, std::memory_order_release);
  for (uint32_t i = 0; i < kInFlightMax; ++i) slots_[i].state.store(Slot::kFree, std::memory_order_release);
}

InFlightTable::Entry::Entry(InFlightTable* table, uint64_t begin, uint64_t end) : table_(table) {
  if (table_ == nullptr) return;
  const uint32_t first = first_choice();
  for (uint32_t i = 0; i < kInFlightMax; ++i) {
    Slot& slot = table_->slots_[(first + i) % kInFlightMax];
    uint32_t expected = Slot::kFree;
    if (!slot.state.compare_exchange_strong(expected, Slot::kClaimed, std::memory_order_acquire)) continue;
    slot.begin = begin;
    slot.end = end;
    slot.state.store(Slot::kWriting, std::memory_order_release);
    slot_ = &slot;
    return;
  }
  table_->header_->unlisted.fetch_add(1, std::memory_order_acq_rel);
}

InFlightTable::Entry::~Entry() {
  if (table_ == nullptr) return;
  if (slot_ != nullptr) {
    slot_->state.store(Slot::kFree, std::memory_order_release);
  } else {
    table_->header_->unlisted.fetch_sub(1, std::memory_order_acq_rel);
  }
}

}  // namespace afterimage
