// The contract of BlockDevice (native/device/block_device.h) as a suite to be run over every implementation.
//
//   TEST_CASE("a captured device keeps the contract of BlockDevice") {
//     check_block_device_contract("captured", [&](uint64_t size) { return make_captured(size); });
//   }
//
// The oracle is a plain array in memory, first filled by reading the device, so that a device may begin with
// any content. AFTERIMAGE_TEST_SEED=N replays a failure; each failure names its seed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "device/block_device.h"

namespace afterimage {

/// Makes a device of `size` bytes (a multiple of 512, not always of 4096). A device with larger blocks may
/// round the size down to a whole block. Called several times; each device is dropped before the next is
/// made. A read-only device is held to the read-only part of the contract.
using MakeBlockDevice = std::function<std::shared_ptr<BlockDevice>(uint64_t size)>;

void check_block_device_contract(const char* name, const MakeBlockDevice& make);

}  // namespace afterimage
