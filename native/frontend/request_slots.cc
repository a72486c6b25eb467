#include "frontend/request_slots.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cassert>
#include <cerrno>
#include <new>

#include "os/pinned_memory.h"

namespace afterimage {
namespace {

constexpr int kSeals =
    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;  // a shorter file would be SIGBUS in the I/O path

uint32_t slot_bytes_for(uint32_t buffer_bytes, uint32_t payload_offset) {
  const uint32_t payload_pages = (buffer_bytes - payload_offset + kSlotPageBytes - 1) / kSlotPageBytes;
  return (1 + payload_pages) * kSlotPageBytes;
}

size_t memfd_bytes(uint32_t count, uint32_t slot_bytes) {
  return kSlotPageBytes + size_t{count} * slot_bytes;
}

}  // namespace

RequestSlots::RequestSlots(Fd memfd, std::byte* mapping, size_t bytes)
    : memfd_(std::move(memfd)), header_(reinterpret_cast<SlotsHeader*>(mapping)), bytes_(bytes) {}

Result<std::unique_ptr<RequestSlots>> RequestSlots::create(uint32_t count, uint32_t buffer_bytes,
                                                           uint32_t payload_offset) {
  if (count == 0 || count > kSlotsMax || buffer_bytes > kSlotBufferBytesMax ||
      buffer_bytes < payload_offset || payload_offset < sizeof(uint64_t) ||
      payload_offset % sizeof(uint64_t) != 0 || payload_offset > kSlotPageBytes - sizeof(SlotMarks))
    return system_error("SLOTS_UNAVAILABLE", "request slots of an impossible shape", EINVAL);

  const uint32_t slot_bytes = slot_bytes_for(buffer_bytes, payload_offset);
  const size_t bytes = memfd_bytes(count, slot_bytes);
  Fd memfd(::memfd_create("afterimage-slots", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  // fallocate rather than ftruncate: too little memory is an error here, and not a SIGBUS later.
  if (!memfd || ::fallocate(memfd.get(), 0, 0, static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(memfd.get(), F_ADD_SEALS, kSeals) != 0)
    return system_error("SLOTS_UNAVAILABLE", "memfd for request slots", errno);
  const auto mapping = map(memfd, bytes);
  if (!mapping.ok()) return mapping.error();
  std::byte* const start = *mapping;
  new (start)
      SlotsHeader{kSlotsMagic, kSlotLayoutVersion, count, slot_bytes, buffer_bytes, payload_offset, 0};
  for (uint32_t i = 0; i < count; ++i) new (start + kSlotPageBytes + size_t{i} * slot_bytes) SlotMarks{};
  return std::unique_ptr<RequestSlots>(new RequestSlots(std::move(memfd), start, bytes));
}

Result<std::unique_ptr<RequestSlots>> RequestSlots::adopt(Fd memfd, uint32_t buffer_bytes,
                                                          uint32_t payload_offset) {
  const auto other = [](const std::string& what) {
    return system_error("SLOTS_LAYOUT", "inherited request slots: " + what, 0);
  };
  struct stat status {};
  SlotsHeader header;
  // Without the seals whoever else has it could cut it shorter under the mapping.
  if (::fstat(memfd.get(), &status) != 0 || (::fcntl(memfd.get(), F_GET_SEALS) & kSeals) != kSeals ||
      ::pread(memfd.get(), &header, sizeof header, 0) != sizeof header)
    return other("no memfd of slots");
  if (header.magic != kSlotsMagic) return other("no slots");
  if (header.version != kSlotLayoutVersion) return other("version " + std::to_string(header.version));
  const uint32_t slot_bytes = slot_bytes_for(buffer_bytes, payload_offset);
  if (header.buffer_bytes != buffer_bytes || header.payload_offset != payload_offset ||
      header.slot_bytes != slot_bytes || header.count == 0 || header.count > kSlotsMax)
    return other("of another shape");
  const size_t bytes = memfd_bytes(header.count, slot_bytes);
  if (static_cast<uint64_t>(status.st_size) != bytes)
    return other(std::to_string(status.st_size) + " bytes instead of " + std::to_string(bytes));
  const auto mapping = map(memfd, bytes);
  if (!mapping.ok()) return mapping.error();
  return std::unique_ptr<RequestSlots>(new RequestSlots(std::move(memfd), *mapping, bytes));
}

Result<std::byte*> RequestSlots::map(const Fd& memfd, size_t bytes) {
  void* const mapping =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd.get(), 0);
  if (mapping == MAP_FAILED) return system_error("SLOTS_UNAVAILABLE", "mmap of request slots", errno);
  pin_memory(mapping, bytes);
  return static_cast<std::byte*>(mapping);
}

RequestSlots::~RequestSlots() { ::munmap(header_, bytes_); }

RequestSlots::Slot RequestSlots::slot(uint32_t index) const {
  assert(index < header_->count);
  std::byte* const start =
      reinterpret_cast<std::byte*>(header_) + kSlotPageBytes + size_t{index} * header_->slot_bytes;
  auto* const marks = reinterpret_cast<SlotMarks*>(start);
  return {&marks->executed, start + kSlotPageBytes - header_->payload_offset, header_->buffer_bytes,
          &marks->answer};
}

bool RequestSlots::Slot::is_occupied() const {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(buffer)).load(std::memory_order_acquire) != 0;
}

void RequestSlots::Slot::mark_executed(Errno result) const {
  answer->store(result, std::memory_order_relaxed);
#ifndef AFTERIMAGE_SABOTAGE_SLOT_NOT_MARKED  // breaks R7: what was answered is done again by a successor
  executed->store(1, std::memory_order_release);
#endif
}

void RequestSlots::Slot::free() const {
  // One store empties the header: its first word holds a request's length and kind.
  std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(buffer)).store(0, std::memory_order_release);
  answer->store(0, std::memory_order_release);
  executed->store(0, std::memory_order_release);
}

}  // namespace afterimage
