// A UUID as its 16 bytes in RFC 9562 order.
#pragma once

#include <array>
#include <cstdint>

namespace afterimage {

using Uuid = std::array<uint8_t, 16>;

}  // namespace afterimage
