#include "capture/capture_ring.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <thread>
#include <vector>

using namespace afterimage;

namespace {

std::unique_ptr<CaptureRing> small_ring() {
  auto ring = CaptureRing::create(kRingBytesMin);
  REQUIRE(ring.ok());
  return std::move(*ring);
}

void fill(RingRecord* record, uint64_t lsn, uint32_t payload_bytes) {
  record->lsn = lsn;
  record->length = payload_bytes;
  for (uint32_t i = 0; i < payload_bytes; ++i) record->payload()[i] = static_cast<std::byte>(lsn * 31 + i);
}

bool holds(const RingRecord* record, uint64_t lsn) {
  if (record->lsn != lsn) return false;
  for (uint32_t i = 0; i < record->length; ++i)
    if (record->payload()[i] != static_cast<std::byte>(lsn * 31 + i)) return false;
  return true;
}

}  // namespace

TEST_CASE("capture ring: one smaller than the least is refused") {
  const auto ring = CaptureRing::create(kRingBytesMin - 1);
  REQUIRE_FALSE(ring.ok());
  CHECK(std::string(ring.error().code) == "RING_UNAVAILABLE");
}

TEST_CASE("capture ring: a record reserved but not published hides itself and nothing else") {
  const auto ring = small_ring();
  CHECK(ring->at(0) == nullptr);
  RingRecord* const first = ring->reserve(512);
  RingRecord* const second = ring->reserve(0);
  fill(second, 2, 0);
  CaptureRing::publish(second);
  CHECK(ring->at(0) == nullptr);
  const uint64_t second_position = first->total_bytes;
  CHECK(ring->at(second_position) == second);
  fill(first, 1, 512);
  CaptureRing::publish(first);
  REQUIRE(ring->at(0) == first);
  CHECK(holds(first, 1));
  CHECK(ring->used() == ring->reserve_position());
}

TEST_CASE("capture ring: full is full to the byte, and a release makes room") {
  const auto ring = small_ring();
  const uint32_t payload = 65536 - sizeof(RingRecord);
  const uint64_t records = ring->capacity() / 65536;
  for (uint64_t i = 0; i < records; ++i) REQUIRE(ring->reserve(payload) != nullptr);
  CHECK(ring->used() == ring->capacity());
  CHECK(ring->reserve(0) == nullptr);
  ring->release(65536);
  CHECK(ring->reserve(payload + 1) == nullptr);
  CHECK(ring->reserve(payload) != nullptr);
  CHECK(ring->reserve(0) == nullptr);
}

TEST_CASE("capture ring: a record across the wrap is contiguous") {
  const auto ring = small_ring();
  const uint32_t payload = kRecordBytesMax - 512;  // does not divide the capacity
  uint64_t read = 0;
  for (uint64_t lsn = 1; lsn < 40; ++lsn) {
    RingRecord* const record = ring->reserve(payload);
    REQUIRE(record != nullptr);
    fill(record, lsn, payload);
    CaptureRing::publish(record);
    const RingRecord* const found = ring->at(read);
    REQUIRE(found == record);
    REQUIRE(holds(found, lsn));
    read += found->total_bytes;
    ring->release(read);
    CHECK(ring->at(read) == nullptr);  // not the mark of an earlier record
  }
  CHECK(ring->reserve_position() > 4 * ring->capacity());
}

TEST_CASE("capture ring: space used before does not look published when it is reserved again") {
  const auto ring = small_ring();
  const uint32_t payload = 65536 - sizeof(RingRecord);
  for (uint64_t lsn = 1; lsn <= ring->capacity() / 65536; ++lsn) {
    RingRecord* const record = ring->reserve(payload);
    fill(record, lsn, 0);
    CaptureRing::publish(record);
  }
  ring->release(ring->reserve_position());
  const uint64_t position = ring->reserve_position();
  RingRecord* const again = ring->reserve(payload);
  CHECK(ring->at(position) == nullptr);
  CaptureRing::publish(again);
  CHECK(ring->at(position) == again);
}

TEST_CASE("capture ring: another mapping of the memfd finds the records") {
  const auto ring = small_ring();
  RingRecord* const record = ring->reserve(4096);
  fill(record, 77, 4096);
  CaptureRing::publish(record);
  struct stat status {};
  REQUIRE(fstat(ring->memfd(), &status) == 0);
  void* const mapping =
      mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, ring->memfd(), 0);
  REQUIRE(mapping != MAP_FAILED);
  const auto* header = static_cast<const RingHeader*>(mapping);
  CHECK(std::memcmp(header->magic, kRingMagic, sizeof kRingMagic) == 0);
  CHECK(header->layout_version == kRingLayoutVersion);
  CHECK(header->capacity == ring->capacity());
  CHECK(header->reserved == ring->reserve_position());
  const auto* found =
      reinterpret_cast<const RingRecord*>(static_cast<const std::byte*>(mapping) + header->header_bytes);
  CHECK(found->state == RingRecord::kPublished);
  CHECK(holds(found, 77));
  munmap(mapping, static_cast<size_t>(status.st_size));
}

TEST_CASE("capture ring: a reader beside a writer sees every record, whole and in order") {
  const auto ring = small_ring();
  constexpr uint64_t kRecords = 20'000;
  std::thread writer([&] {
    for (uint64_t lsn = 1; lsn <= kRecords;) {
      const uint32_t payload = static_cast<uint32_t>(lsn * 7919 % 8) * 512;
      RingRecord* const record = ring->reserve(payload);
      if (record == nullptr) {
        std::this_thread::yield();
        continue;
      }
      fill(record, lsn++, payload);
      CaptureRing::publish(record);
    }
  });
  uint64_t position = 0, expected = 1, wrong = 0;
  while (expected <= kRecords) {
    const RingRecord* const record = ring->at(position);
    if (record == nullptr) {
      std::this_thread::yield();
      continue;
    }
    wrong += !holds(record, expected++);
    position += record->total_bytes;
    ring->release(position);
  }
  writer.join();
  CHECK(wrong == 0);
  CHECK(ring->used() == 0);
}
