// afterimage-supervisor PROGRAM [ARGUMENT…]: see supervisor.h.
#include <sys/mman.h>

#include <cstdio>
#include <string>
#include <vector>

#include "os/io_thread.h"
#include "supervisor/supervisor.h"

int main(int count, char** arguments) {
  using namespace afterimage;
  if (count < 2) {
    std::fprintf(stderr, "usage: afterimage-supervisor PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  auto listener = NotifyListener::open();
  if (!listener.ok()) {
    std::fprintf(stderr, "afterimage-supervisor: %s\n", listener.error().message.c_str());
    return 1;
  }
  // It must be there when memory is short: that is when agents die. What is refused, the agent reports too.
  static_cast<void>(protect_io_process());
  static_cast<void>(::mlockall(MCL_CURRENT | MCL_FUTURE));
  return Supervisor({arguments + 1, arguments + count}, std::move(*listener)).run();
}
