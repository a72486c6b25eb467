#include "device/piece_memory.h"

#include <memory>
#include <new>

namespace afterimage {
namespace {

constexpr std::align_val_t kAlignment{4096};

struct Delete {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, kAlignment); }
};

}  // namespace

std::byte* piece_memory() {
  thread_local const std::unique_ptr<std::byte[], Delete> memory(new (kAlignment) std::byte[kPieceBytes]);
  return memory.get();
}

}  // namespace afterimage
