// NbdListener: the socket on which an NbdServer waits for clients. It can outlive the process in the
// descriptor store: whoever connects meanwhile waits, and is not turned away.
//
// Threads: one control thread; descriptor() may be accepted on by another. Ownership: owns the socket and,
// for a Unix socket, its path, which goes with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "os/fd.h"
#include "os/result.h"

namespace afterimage {

class NbdListener {
 public:
  /// Errors: LISTEN_BUSY, LISTEN_FAILED.
  static Result<NbdListener> listen_unix(const std::string& path);
  static Result<NbdListener> listen_tcp(const std::string& host, uint16_t port);
  /// Goes on with the socket of a predecessor. Errors: LISTEN_FAILED, also where its path is gone, so that
  /// nobody would find it.
  static Result<NbdListener> adopt(Fd socket);
  NbdListener(NbdListener&&) = default;
  NbdListener& operator=(NbdListener&&) = delete;
  ~NbdListener();

  int descriptor() const { return socket_.get(); }
  /// "unix:/path" or "tcp:host:port", an IPv6 host in brackets.
  const std::string& address() const { return address_; }
  bool is_tcp() const { return path_.empty(); }

 private:
  NbdListener(Fd socket, std::string address, std::string path);
  Fd socket_;
  std::string address_;
  std::string path_;  // "" for TCP
  dev_t path_device_ = 0;
  ino_t path_inode_ = 0;
};

}  // namespace afterimage
