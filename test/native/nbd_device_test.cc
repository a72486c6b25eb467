// What is asked of the kernel's nbd driver without having one. With one: test/vm.
#include "frontend/nbd_device.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <cerrno>

#include "os/fd.h"

namespace afterimage {

TEST_CASE("only a device that is known to be another's, or nobody's, is gone") {
  const std::string device = "/dev/nbd4095", backend = "afterimage-of-nobody";
  CHECK(check_nbd_owner("/dev/sda", backend) == ENODEV);
  CHECK(check_nbd_owner(device, backend) == ENODEV);
  // Symptom: a process that was out of descriptors took its device for gone, and never served it again.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlim_t open = 0;
  {
    const Fd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    open = static_cast<rlim_t>(lowest.get());
  }
  const rlimit none{open, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const Errno error = check_nbd_owner(device, backend);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(error == EMFILE);
}

}  // namespace afterimage
