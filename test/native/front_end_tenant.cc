#include "front_end_tenant.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace afterimage {
namespace {

using Bytes = FrontEndClient::Bytes;

constexpr uint64_t kPageBytes = 4096;

Bytes random_bytes(std::mt19937_64& random, uint64_t length) {
  Bytes bytes(length);
  for (uint64_t done = 0; done < length; done += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + done, &word, std::min<uint64_t>(sizeof word, length - done));
  }
  return bytes;
}

}  // namespace

std::string FrontEndTenant::live(uint64_t seed, uint64_t steps) {
  std::mt19937_64 random(seed);
  for (uint64_t step = 0; step < steps; ++step) {
    const auto [offset, length] = random_range(random);
    const std::string problem = take_step(random, offset, length);
    if (!problem.empty())
      return problem + ", step " + std::to_string(step) + " offset " + std::to_string(begin_ + offset) +
             " length " + std::to_string(length);
  }
  return "";
}

/// Mostly small, sometimes as long as several pieces, sometimes at the very end.
std::pair<uint64_t, uint64_t> FrontEndTenant::random_range(std::mt19937_64& random) const {
  const uint64_t unit = random() % 3 == 0 ? kPageBytes : client_.alignment();
  const std::array<uint64_t, 8> most = {unit,  unit,  kPageBytes, kPageBytes,
                                        20000, 20000, 100000,     kLongRequestBytes};
  const uint64_t limit = most[random() % most.size()];
  const uint64_t length = std::max(unit, random() % (limit + 1) / unit * unit);
  const uint64_t latest = model_.size() - length;
  return {random() % 8 == 0 ? latest : random() % (latest + 1) / unit * unit, length};
}

std::string FrontEndTenant::take_step(std::mt19937_64& random, uint64_t offset, uint64_t length) {
  const auto place = model_.begin() + static_cast<ptrdiff_t>(offset);
  const auto outcome = [](const char* name, Errno error) {
    return error == 0 ? "" : name + (", errno " + std::to_string(error));
  };
  switch (random() % 10) {
    case 0:
    case 1:
    case 2:
    case 3: {
      const Bytes data = random_bytes(random, length);
      std::copy(data.begin(), data.end(), place);
      return random() % 8 == 0 ? outcome("durable write", client_.write_durably(begin_ + offset, data))
                               : outcome("write", client_.write(begin_ + offset, data));
    }
    case 4:
      std::fill_n(place, length, std::byte{0});
      return outcome("zero", client_.zero(begin_ + offset, length));
    case 5:
      std::fill_n(place, length, std::byte{0});
      return outcome("trim", client_.trim(begin_ + offset, length));
    case 6:
      if (random() % 4 == 0) return outcome("flush", client_.flush());
      [[fallthrough]];
    default: {
      Bytes data(length);
      if (const Errno error = client_.read(begin_ + offset, &data)) return outcome("read", error);
      return std::equal(data.begin(), data.end(), place) ? "" : "read of something else";
    }
  }
}

}  // namespace afterimage
