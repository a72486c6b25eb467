#include "binding/block_hashes.h"

#include <openssl/core_names.h>

#include <algorithm>
#include <utility>

#include "binding/values.h"

namespace afterimage::binding {
namespace {

constexpr size_t kHashBytes = 32;

Error failed() { return {"INTERNAL", "OpenSSL makes no HMAC-SHA-256", 0}; }

}  // namespace

Result<BlockHashes> BlockHashes::begin(const std::string& key, uint64_t block_bytes) {
  const std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr),
                                                              EVP_MAC_free);
  BlockHashes hashes;
  hashes.block_bytes_ = block_bytes;
  hashes.context_.reset(mac ? EVP_MAC_CTX_new(mac.get()) : nullptr);
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                   OSSL_PARAM_construct_end()};
  if (!hashes.context_ ||
      EVP_MAC_init(hashes.context_.get(), reinterpret_cast<const unsigned char*>(key.data()), key.size(),
                   parameters) != 1)
    return failed();
  return hashes;
}

Outcome BlockHashes::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const uint64_t taken = std::min<uint64_t>(bytes.size(), block_bytes_ - in_block_);
    if (EVP_MAC_update(context_.get(), reinterpret_cast<const unsigned char*>(bytes.data()), taken) != 1)
      return failed();
    bytes = bytes.subspan(taken);
    in_block_ += taken;
    if (in_block_ < block_bytes_) continue;
    if (Outcome ended = end_block(); !ended.ok()) return ended;
  }
  return Nothing{};
}

Result<BlockHashes::Bytes> BlockHashes::end() {
  if (in_block_ > 0)
    if (Outcome ended = end_block(); !ended.ok()) return ended.error();
  return std::move(hashes_);
}

Outcome BlockHashes::end_block() {
  in_block_ = 0;
  hashes_.resize(hashes_.size() + kHashBytes);
  size_t written = 0;
  // With the key that it has.
  if (EVP_MAC_final(context_.get(), &hashes_[hashes_.size() - kHashBytes], &written, kHashBytes) != 1 ||
      written != kHashBytes || EVP_MAC_init(context_.get(), nullptr, 0, nullptr) != 1)
    return failed();
  return Nothing{};
}

uint64_t to_block_bytes(const Napi::Value& value) {
  const uint32_t bytes = to_u32(value, "blockBytes");
  if (bytes == 0) throw Napi::RangeError::New(value.Env(), "blocks of no bytes");
  return bytes;
}

std::string to_key(const Napi::Value& value) {
  const auto key = to_buffer(value, "key");
  return {reinterpret_cast<const char*>(key.Data()), key.Length()};
}

Napi::Value hashes_value(Napi::Env env, BlockHashes::Bytes& hashes) {
  return Napi::Buffer<unsigned char>::Copy(env, hashes.data(), hashes.size());
}

}  // namespace afterimage::binding
