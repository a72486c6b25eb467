// FuseServer as a front end for the contract suite: its file, or a loop device over that. Both need root and
// /dev/fuse, the loop device /dev/loop-control too.
#pragma once

#include "front_end_contract.h"

namespace afterimage {

FrontEnd fuse_file_front_end();
FrontEnd loop_device_front_end();

}  // namespace afterimage
