// OverlayDevice: copy-on-write scratch over a read-only lower device, for a writable export. What is written
// goes to an unlinked sparse file and is gone with the device.
//
// Threads: as BlockDevice; partial-block writes of the same 4 KiB block exclude each other (striped locks).
// Ownership: shares the lower device; owns the scratch file.
#pragma once

#include <memory>
#include <string>

#include "device/block_device.h"

namespace afterimage {

constexpr uint32_t kOverlayBlockBytes = 4096;

class OverlayDevice : public BlockDevice {
 public:
  /// `scratch_directory` must exist and be writable; the scratch file is created there (O_TMPFILE, or created
  /// and unlinked). Errors: SCRATCH_UNAVAILABLE.
  static Result<std::unique_ptr<OverlayDevice>> create(std::shared_ptr<BlockDevice> lower,
                                                       const std::string& scratch_directory);
};

}  // namespace afterimage
