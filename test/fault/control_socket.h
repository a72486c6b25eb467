// The control socket of a fault-directory: requests and answers as fault_directory.cc has them.
//
// Threads: serve_control has one of its own. Ownership: borrows the log and the rules, which outlive it.
#pragma once

#include "fault_rules.h"
#include "operation_log.h"

namespace afterimage::fault {

/// A descriptor that listens there, or -1 with errno.
int listen_on(const char* path);
/// Serves one client after the other, each as long as it likes, until `listener` fails.
void serve_control(int listener, OperationLog* log, FaultRules* rules);

}  // namespace afterimage::fault
