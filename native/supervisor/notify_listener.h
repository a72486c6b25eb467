// NotifyListener: the socket of $NOTIFY_SOCKET. In the abstract namespace, where any process of the machine
// may send: only what comes from the supervised process itself counts.
//
// Threads: one. Ownership: owns the socket.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

class NotifyListener {
 public:
  /// Errors: NOTIFY_FAILED.
  static Result<NotifyListener> open();

  int descriptor() const { return socket_.get(); }
  /// What $NOTIFY_SOCKET is to say: '@' and the abstract name.
  const std::string& address() const { return address_; }

  struct Message {
    std::string text;
    std::vector<Fd> descriptors;
  };
  /// The next message of process `sender`; false when none is waiting. What others send, and what is cut off,
  /// is dropped.
  bool receive(pid_t sender, Message* message) const;

 private:
  NotifyListener(Fd socket, std::string address) : socket_(std::move(socket)), address_(std::move(address)) {}
  Fd socket_;
  std::string address_;
};

}  // namespace afterimage
