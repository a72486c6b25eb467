// What the kernel knows of the client at the other end of an NBD connection.
//
// Threads: any, while nobody closes the socket. Ownership: it stays the caller's.
#pragma once

namespace afterimage {

enum class NbdPeer {
  kThere,
  kEnding,  // sends no more: it may still take answers, as libnbd does when it leaves, or be gone
  kGone,    // takes no answers either; or this side has shut the connection
};

/// Over a Unix socket a client that closes, or dies, is kGone at once. Over TCP it is kEnding once its FIN
/// has come, and kGone when it has refused an answer; of a link that was cut nothing is known.
NbdPeer nbd_peer(int socket);

/// Whether nobody may be left to take an answer: kGone, or over TCP kEnding.
bool may_be_gone(int socket);

}  // namespace afterimage
