// The service manager's side of this process: telling it how things stand and giving it descriptors to keep,
// as sd_notify(3) and sd_pid_notify_with_fds(3) define it, and taking those back that a predecessor left
// (sd_listen_fds_with_names(3)). systemd speaks it, and native/supervisor where there is none.
//
// Threads: any, but take_stored_descriptors() and the environment belong to the main thread.
// Ownership: descriptors that are sent stay the caller's.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

/// A name is 1…255 printable ASCII characters without ':'.
bool is_descriptor_name(const std::string& name);

/// Whether $NOTIFY_SOCKET names one.
bool has_notify_socket();

/// Sends `assignments` ("READY=1", or several, one a line) with the descriptors. Errors: NOTIFY_FAILED.
Outcome notify(const std::string& assignments, std::span<const int> descriptors = {});

/// Gives the descriptor to the store, which keeps it when this process ends. Errors: NOTIFY_FAILED.
Outcome store_descriptor(const std::string& name, int descriptor);
/// The store lets go of all descriptors of that name. Errors: NOTIFY_FAILED.
Outcome forget_descriptor(const std::string& name);
/// Returns when all that was sent before was carried out (BARRIER=1). Errors: NOTIFY_FAILED, also when nobody
/// answers in time.
Outcome await_notified(std::chrono::milliseconds patience);

struct StoredDescriptor {
  std::string name;
  Fd descriptor;
};
/// What the store handed to this process, the first time; later ones get nothing. Closed on exec.
std::vector<StoredDescriptor> take_stored_descriptors();

}  // namespace afterimage
