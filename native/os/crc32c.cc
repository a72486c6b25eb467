#include "os/crc32c.h"

#include <array>
#include <cstring>

namespace afterimage {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr auto kTable = make_table();

uint32_t portable(const uint8_t* p, size_t n, uint32_t crc) {
  for (; n > 0; --n) crc = (crc >> 8) ^ kTable[(crc ^ *p++) & 0xff];
  return crc;
}

#if defined(__x86_64__)
// The instruction has a latency of 3 cycles and a throughput of 1: three independent lanes keep it busy. The
// lanes are joined by multiplying with x^(8*kLane) mod P, done by a table of the zero-extension operator.
constexpr size_t kLane = 1024;

constexpr uint32_t times(const std::array<uint32_t, 32>& m, uint32_t v) {
  uint32_t sum = 0;
  for (int i = 0; v != 0; v >>= 1, ++i)
    if ((v & 1) != 0) sum ^= m[static_cast<size_t>(i)];
  return sum;
}
constexpr std::array<uint32_t, 32> squared(const std::array<uint32_t, 32>& m) {
  std::array<uint32_t, 32> out{};
  for (size_t i = 0; i < 32; ++i) out[i] = times(m, m[i]);
  return out;
}
/// tables[k][b]: effect of kLane zero bytes on a CRC whose byte k is b.
constexpr std::array<std::array<uint32_t, 256>, 4> make_shift() {
  std::array<uint32_t, 32> op{};  // one zero bit
  op[0] = kPolynomial;
  for (uint32_t i = 1; i < 32; ++i) op[i] = 1u << (i - 1);
  for (size_t bits = 1; bits < kLane * 8; bits *= 2) op = squared(op);
  std::array<std::array<uint32_t, 256>, 4> tables{};
  for (uint32_t k = 0; k < 4; ++k)
    for (uint32_t b = 0; b < 256; ++b) tables[k][b] = times(op, b << (8 * k));
  return tables;
}
constexpr auto kShift = make_shift();
static_assert((kLane & (kLane - 1)) == 0, "the zero operator is built by squaring");

uint32_t shift(uint32_t crc) {
  return kShift[0][crc & 0xff] ^ kShift[1][(crc >> 8) & 0xff] ^ kShift[2][(crc >> 16) & 0xff] ^
         kShift[3][crc >> 24];
}

uint64_t word(const uint8_t* p) {
  uint64_t w;
  std::memcpy(&w, p, 8);
  return w;
}

__attribute__((target("sse4.2"))) uint32_t accelerated(const uint8_t* p, size_t n, uint32_t crc) {
  while (n >= 3 * kLane) {
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < kLane; i += 8) {
      a = __builtin_ia32_crc32di(a, word(p + i));
      b = __builtin_ia32_crc32di(b, word(p + kLane + i));
      c = __builtin_ia32_crc32di(c, word(p + 2 * kLane + i));
    }
    crc = shift(shift(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^ static_cast<uint32_t>(c);
    p += 3 * kLane;
    n -= 3 * kLane;
  }
  uint64_t wide = crc;
  for (; n >= 8; n -= 8, p += 8) wide = __builtin_ia32_crc32di(wide, word(p));
  crc = static_cast<uint32_t>(wide);
  for (; n > 0; --n) crc = __builtin_ia32_crc32qi(crc, *p++);
  return crc;
}

bool has_sse42() { return __builtin_cpu_supports("sse4.2") != 0; }
#endif

}  // namespace

uint32_t crc32c(const void* data, size_t bytes, uint32_t seed) {
  const auto* p = static_cast<const uint8_t*>(data);
#if defined(__x86_64__)
  static const bool fast = has_sse42();
  if (fast) return ~accelerated(p, bytes, ~seed);
#endif
  return ~portable(p, bytes, ~seed);
}

}  // namespace afterimage
