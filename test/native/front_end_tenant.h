// FrontEndTenant: a client with a part of the device to itself, and the naive model of that part. Several of
// them at once are the contract suite's random history.
//
// Threads: one at a time. Ownership: the client is the caller's, the model its own.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>

#include "front_end_contract.h"

namespace afterimage {

class FrontEndTenant {
 public:
  FrontEndTenant(FrontEndClient& client, uint64_t begin, FrontEndClient::Bytes content)
      : client_(client), begin_(begin), model_(std::move(content)) {}
  uint64_t begin() const { return begin_; }
  const FrontEndClient::Bytes& model() const { return model_; }
  /// Writes, zeroes, trims, flushes and reads at random. Returns what went wrong, "" for nothing.
  std::string live(uint64_t seed, uint64_t steps);

 private:
  std::pair<uint64_t, uint64_t> random_range(std::mt19937_64& random) const;
  std::string take_step(std::mt19937_64& random, uint64_t offset, uint64_t length);

  FrontEndClient& client_;
  const uint64_t begin_;  // a multiple of the block size
  FrontEndClient::Bytes model_;
};

}  // namespace afterimage
