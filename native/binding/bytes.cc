#include "binding/bytes.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <string>
#include <vector>

#include "binding/async.h"
#include "binding/values.h"
#include "os/crc32c.h"
#include "os/lock_file.h"

namespace afterimage::binding {
namespace {

constexpr size_t kHashBytes = 32;

Napi::Value checksum(const Napi::CallbackInfo& info) {
  const auto bytes = to_buffer(info[0], "bytes");
  return Napi::Number::New(info.Env(), crc32c(bytes.Data(), bytes.Length()));
}

/// (bytes, blockBytes, key). Node's own OpenSSL: the addon brings none.
Napi::Value hash_blocks(const Napi::CallbackInfo& info) {
  const auto bytes = to_buffer(info[0], "bytes");
  const size_t block_bytes = to_u32(info[1], "blockBytes");
  const auto key = to_buffer(info[2], "key");
  if (block_bytes == 0) throw Napi::RangeError::New(info.Env(), "blocks of no bytes");
  return run_async<std::vector<unsigned char>>(
      info.Env(),
      [data = reinterpret_cast<const unsigned char*>(bytes.Data()), length = bytes.Length(), block_bytes,
       key = std::string(reinterpret_cast<const char*>(key.Data()),
                         key.Length())]() -> Result<std::vector<unsigned char>> {
        std::vector<unsigned char> hashes((length + block_bytes - 1) / block_bytes * kHashBytes);
        for (size_t begin = 0, at = 0; begin < length; begin += block_bytes, at += kHashBytes) {
          unsigned int written = 0;
          if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data + begin,
                   std::min(block_bytes, length - begin), hashes.data() + at, &written) == nullptr ||
              written != kHashBytes)
            return Error{"INTERNAL", "OpenSSL made no HMAC-SHA-256", 0};
        }
        return hashes;
      },
      [](Napi::Env env, std::vector<unsigned char>& hashes) -> Napi::Value {
        return Napi::Buffer<unsigned char>::Copy(env, hashes.data(), hashes.size());
      },
      {bytes});
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
