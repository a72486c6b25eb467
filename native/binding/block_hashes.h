// Hashes of what a volume holds, block by block: HMAC-SHA-256 (RFC 2104, FIPS 180-4), by the OpenSSL that
// Node has in itself; the addon brings none.
//
// Threads: one at a time, any. Ownership: owns its context; borrows what is added for the call.
#pragma once

#include <napi.h>
#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "os/result.h"

namespace afterimage::binding {

class BlockHashes {
 public:
  using Bytes = std::vector<unsigned char>;
  /// Blocks of `block_bytes`, > 0. Errors, here and below: INTERNAL.
  static Result<BlockHashes> begin(const std::string& key, uint64_t block_bytes);
  /// What follows what was added before.
  Outcome add(std::span<const std::byte> bytes);
  /// 32 bytes for each block; the last one may have been shorter.
  Result<Bytes> end();

 private:
  struct Free {
    void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
  };
  BlockHashes() = default;
  Outcome end_block();

  std::unique_ptr<EVP_MAC_CTX, Free> context_;
  uint64_t block_bytes_ = 0;
  uint64_t in_block_ = 0;  // bytes of the present one
  Bytes hashes_;
};

/// Arguments and result of it across the boundary: main thread.
uint64_t to_block_bytes(const Napi::Value& value);
std::string to_key(const Napi::Value& value);
Napi::Value hashes_value(Napi::Env env, BlockHashes::Bytes& hashes);

}  // namespace afterimage::binding
