#include "binding/bytes.h"

#include <span>

#include "binding/async.h"
#include "binding/block_hashes.h"
#include "binding/values.h"
#include "os/crc32c.h"
#include "os/lock_file.h"

namespace afterimage::binding {
namespace {

Napi::Value checksum(const Napi::CallbackInfo& info) {
  const auto bytes = to_buffer(info[0], "bytes");
  return Napi::Number::New(info.Env(), crc32c(bytes.Data(), bytes.Length()));
}

/// (bytes, blockBytes, key)
Napi::Value hash_blocks(const Napi::CallbackInfo& info) {
  const auto buffer = to_buffer(info[0], "bytes");
  const std::span<const std::byte> bytes(buffer.Data(), buffer.Length());
  return run_async<BlockHashes::Bytes>(
      info.Env(),
      [bytes, block_bytes = to_block_bytes(info[1]), key = to_key(info[2])]() -> Result<BlockHashes::Bytes> {
        auto hashes = BlockHashes::begin(key, block_bytes);
        if (!hashes.ok()) return hashes.error();
        if (Outcome added = hashes->add(bytes); !added.ok()) return added.error();
        return hashes->end();
      },
      hashes_value, {buffer});
}

Napi::Value lock(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto fd = take_lock(to_string(info[0], "path"));
  if (!fd.ok()) throw_error(env, fd.error());
  if (!*fd) return env.Null();
  return Napi::Number::New(env, fd->release());
}

}  // namespace

void define_bytes(Napi::Env env, Napi::Object exports) {
  exports.Set("crc32c", Napi::Function::New<checksum>(env));
  exports.Set("hashBlocks", Napi::Function::New<hash_blocks>(env));
  exports.Set("lockFile", Napi::Function::New<lock>(env));
}

}  // namespace afterimage::binding
