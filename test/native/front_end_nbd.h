// NbdServer as a front end for the contract suite, on a Unix socket with clients of the old kind (simple
// replies, any alignment), or on TCP with clients that use structured replies and keep to block sizes.
#pragma once

#include "front_end_contract.h"

namespace afterimage {

FrontEnd nbd_front_end_on_unix_socket();
FrontEnd nbd_front_end_on_tcp();

}  // namespace afterimage
