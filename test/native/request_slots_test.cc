#include "frontend/request_slots.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

using namespace afterimage;

namespace {

constexpr uint32_t kPayloadOffset = 80;
constexpr uint32_t kBufferBytes = kPayloadOffset + (1u << 20);

}  // namespace

TEST_CASE("a slot's payload begins on a page, so that a direct write needs no copy") {
  const auto slots = RequestSlots::create(3, kBufferBytes, kPayloadOffset);
  REQUIRE(slots.ok());
  CHECK((*slots)->count() == 3);
  for (uint32_t i = 0; i < 3; ++i) {
    const auto slot = (*slots)->slot(i);
    CHECK(slot.buffer_bytes == kBufferBytes);
    CHECK(reinterpret_cast<uintptr_t>(slot.buffer + kPayloadOffset) % kSlotPageBytes == 0);
  }
}

TEST_CASE("slots filled to the last byte do not touch each other or their marks") {
  const auto slots = RequestSlots::create(2, kBufferBytes, kPayloadOffset);
  REQUIRE(slots.ok());
  const auto first = (*slots)->slot(0), second = (*slots)->slot(1);
  second.mark_executed(ENOSPC);
  std::memset(first.buffer, 0xaa, first.buffer_bytes);
  CHECK(first.executed->load() == 0);
  CHECK(second.executed->load() == 1);
  CHECK(second.answer->load() == ENOSPC);
  CHECK(second.buffer[0] == std::byte{0});
  std::memset(second.buffer, 0xbb, second.buffer_bytes);
  CHECK(first.buffer[first.buffer_bytes - 1] == std::byte{0xaa});
  CHECK(second.executed->load() == 1);
}

TEST_CASE("a successor that has only the memfd finds layout, request and marks") {
  const auto slots = RequestSlots::create(2, kBufferBytes, kPayloadOffset);
  REQUIRE(slots.ok());
  const auto slot = (*slots)->slot(1);
  constexpr char kRequest[] = "a request";
  std::memcpy(slot.buffer, kRequest, sizeof kRequest);
  slot.mark_executed(EIO);

  struct stat status {};
  REQUIRE(::fstat((*slots)->memfd(), &status) == 0);
  const auto bytes = static_cast<size_t>(status.st_size);
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, (*slots)->memfd(), 0);
  REQUIRE(mapping != MAP_FAILED);
  const auto* const start = static_cast<const std::byte*>(mapping);
  SlotsHeader header;
  std::memcpy(&header, start, sizeof header);
  CHECK(std::memcmp(start, "AFISLOT1", 8) == 0);
  CHECK(header.version == kSlotLayoutVersion);
  CHECK(header.count == 2);
  CHECK(header.buffer_bytes == kBufferBytes);
  CHECK(header.payload_offset == kPayloadOffset);
  REQUIRE(kSlotPageBytes + uint64_t{header.count} * header.slot_bytes == bytes);
  const std::byte* const found = start + kSlotPageBytes + header.slot_bytes;
  const auto* const marks = reinterpret_cast<const SlotMarks*>(found);
  CHECK(marks->executed.load() == 1);
  CHECK(marks->answer.load() == EIO);
  CHECK(std::memcmp(found + kSlotPageBytes - header.payload_offset, kRequest, sizeof kRequest) == 0);
  ::munmap(mapping, bytes);
}

TEST_CASE("a freed slot is empty by its first word, and its marks are gone") {
  const auto slots = RequestSlots::create(1, kBufferBytes, kPayloadOffset);
  REQUIRE(slots.ok());
  const auto slot = (*slots)->slot(0);
  std::memset(slot.buffer, 0xff, 64);
  slot.mark_executed(EIO);
  slot.free();
  uint64_t first_word = 1;
  std::memcpy(&first_word, slot.buffer, sizeof first_word);
  CHECK(first_word == 0);
  CHECK(slot.executed->load() == 0);
  CHECK(slot.answer->load() == 0);
}

TEST_CASE("the memfd of the slots cannot be cut short and is not inherited by programs") {
  const auto slots = RequestSlots::create(1, kBufferBytes, kPayloadOffset);
  REQUIRE(slots.ok());
  CHECK(::ftruncate((*slots)->memfd(), kSlotPageBytes) == -1);
  CHECK(errno == EPERM);
  CHECK((::fcntl((*slots)->memfd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("slots of an impossible shape are refused") {
  const auto code = [](uint32_t count, uint32_t buffer, uint32_t offset) {
    const auto slots = RequestSlots::create(count, buffer, offset);
    return slots.ok() ? std::string() : std::string(slots.error().code);
  };
  CHECK(code(0, kBufferBytes, kPayloadOffset) == "SLOTS_UNAVAILABLE");
  CHECK(code(kSlotsMax + 1, kBufferBytes, kPayloadOffset) == "SLOTS_UNAVAILABLE");
  CHECK(code(1, kSlotBufferBytesMax + 1, kPayloadOffset) == "SLOTS_UNAVAILABLE");
  CHECK(code(1, 64, kPayloadOffset) == "SLOTS_UNAVAILABLE");
  CHECK(code(1, kBufferBytes, kSlotPageBytes - 8) == "SLOTS_UNAVAILABLE");  // no room for the marks
  CHECK(code(1, kBufferBytes, 81) == "SLOTS_UNAVAILABLE");
  CHECK(code(1, kBufferBytes, kPayloadOffset) == "");
}

TEST_CASE("a successor goes on with the slots of its predecessor") {
  const auto slots = RequestSlots::create(2, kBufferBytes, kPayloadOffset);
  REQUIRE(slots.ok());
  const auto slot = (*slots)->slot(1);
  CHECK_FALSE(slot.is_occupied());
  constexpr char kRequest[] = "a request";
  std::memcpy(slot.buffer, kRequest, sizeof kRequest);
  slot.mark_executed(EIO);
  const auto adopted = RequestSlots::adopt(Fd(::dup((*slots)->memfd())), kBufferBytes, kPayloadOffset);
  REQUIRE(adopted.ok());
  CHECK((*adopted)->count() == 2);
  CHECK_FALSE((*adopted)->slot(0).is_occupied());
  const auto found = (*adopted)->slot(1);
  REQUIRE(found.is_occupied());
  CHECK(std::memcmp(found.buffer, kRequest, sizeof kRequest) == 0);
  CHECK(found.executed->load() == 1);
  CHECK(found.answer->load() == EIO);
  found.free();
  CHECK_FALSE(slot.is_occupied());
}

TEST_CASE("slots that are none, or another version's, are refused") {
  const auto code = [](const char* what, auto change) {
    const auto slots = RequestSlots::create(2, kBufferBytes, kPayloadOffset);
    REQUIRE(slots.ok());
    void* const mapping =
        ::mmap(nullptr, kSlotPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, (*slots)->memfd(), 0);
    REQUIRE(mapping != MAP_FAILED);
    change(static_cast<SlotsHeader*>(mapping));
    ::munmap(mapping, kSlotPageBytes);
    const auto adopted = RequestSlots::adopt(Fd(::dup((*slots)->memfd())), kBufferBytes, kPayloadOffset);
    INFO(what);
    return adopted.ok() ? std::string() : std::string(adopted.error().code);
  };
  CHECK(code("nothing", [](SlotsHeader*) {}).empty());
  CHECK(code("magic", [](SlotsHeader* header) { header->magic = 0; }) == "SLOTS_LAYOUT");
  CHECK(code("version", [](SlotsHeader* header) { header->version = 2; }) == "SLOTS_LAYOUT");
  CHECK(code("no slot", [](SlotsHeader* header) { header->count = 0; }) == "SLOTS_LAYOUT");
  CHECK(code("too many", [](SlotsHeader* header) { header->count = 3; }) == "SLOTS_LAYOUT");
  CHECK(code("far too many", [](SlotsHeader* header) { header->count = ~0u; }) == "SLOTS_LAYOUT");
  CHECK(code("buffer", [](SlotsHeader* header) { header->buffer_bytes += 8; }) == "SLOTS_LAYOUT");
  CHECK(code("payload", [](SlotsHeader* header) { header->payload_offset = 88; }) == "SLOTS_LAYOUT");
  CHECK(code("stride", [](SlotsHeader* header) { header->slot_bytes = 1; }) == "SLOTS_LAYOUT");
  const Fd unsealed(::memfd_create("unsealed", MFD_CLOEXEC));
  REQUIRE(::ftruncate(unsealed.get(), 1 << 20) == 0);
  const auto adopted = RequestSlots::adopt(Fd(::dup(unsealed.get())), kBufferBytes, kPayloadOffset);
  REQUIRE_FALSE(adopted.ok());
  CHECK(std::string(adopted.error().code) == "SLOTS_LAYOUT");
}
