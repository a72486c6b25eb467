// The contract of front ends, run over each that there is.
#include "front_end_contract.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include "front_end_fuse.h"
#include "front_end_nbd.h"
#include "prerequisite.h"
#include "served_volume.h"

namespace afterimage {

TEST_CASE("an NBD server on a Unix socket keeps the contract of front ends") {
  check_front_end_contract(nbd_front_end_on_unix_socket());
}

TEST_CASE("an NBD server on TCP keeps the contract of front ends") {
  check_front_end_contract(nbd_front_end_on_tcp());
}

TEST_CASE("a FUSE server's file keeps the contract of front ends") {
  NEEDS(::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0, "root and /dev/fuse");
  check_front_end_contract(fuse_file_front_end());
}

TEST_CASE("a loop device over a FUSE server's file keeps the contract of front ends") {
  NEEDS(test::can_attach(), "root, /dev/fuse and /dev/loop-control");
  check_front_end_contract(loop_device_front_end());
}

}  // namespace afterimage
