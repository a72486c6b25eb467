// DescriptorKeeper: the descriptors that a supervised process wants to outlive it, and the messages by which
// it says so (the part of sd_notify(3) that a daemon of ours uses: FDSTORE, FDSTOREREMOVE, FDNAME, READY,
// BARRIER; the rest is ignored, as systemd ignores what it does not know).
//
// Threads: one. Ownership: owns the descriptors.
#pragma once

#include <string_view>
#include <vector>

#include "os/notify_socket.h"

namespace afterimage {

constexpr size_t kKeptDescriptorsMax = 1024;

class DescriptorKeeper {
 public:
  /// One message, and what came with it: kept, or closed at the end of the call. Returns what is wrong with
  /// it, for the log; empty if nothing is.
  std::string_view take(std::string_view message, std::vector<Fd> descriptors);

  /// In the order in which they came.
  const std::vector<StoredDescriptor>& kept() const { return kept_; }
  /// READY=1 came since forget_ready().
  bool is_ready() const { return is_ready_; }
  void forget_ready() { is_ready_ = false; }

 private:
  std::vector<StoredDescriptor> kept_;
  bool is_ready_ = false;
};

}  // namespace afterimage
