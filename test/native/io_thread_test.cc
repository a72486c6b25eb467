#include "os/io_thread.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "prerequisite.h"

using namespace afterimage;

namespace {

/// Kilobytes of locked memory of this process.
long locked_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmLck:", 0) == 0) return std::strtol(line.c_str() + 6, nullptr, 10);
  return -1;
}

/// Exit status of `body` run in a forked child: what it does to the process must not stay with the tests.
template <typename Body>
int in_child(Body body) {
  std::cout.flush();  // or the child would print it again
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Whether one of the sentences begins with `what`.
bool names(const std::vector<std::string>& refused, const std::string& what) {
  for (const auto& sentence : refused)
    if (sentence.rfind(what, 0) == 0) return true;
  return false;
}

/// 0 if each protection is either in effect or named as refused, and never both.
int check_protection() {
  const long before = locked_kib();
  const auto refused = protect_io_process();
  const bool is_flusher = ::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1;
  if (is_flusher == names(refused, "PR_SET_IO_FLUSHER")) return 1;
  int adjustment = 0;
  std::ifstream("/proc/self/oom_score_adj") >> adjustment;
  if ((adjustment == -1000) == names(refused, "oom_score_adj")) return 2;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static_cast<void>(before);  // sanitizers replace mlock by nothing
  return 0;
#else
  const bool is_locked = locked_kib() > before;
  return is_locked || names(refused, "mlock") ? 0 : 3;
#endif
}

}  // namespace

TEST_CASE("each protection of a process that serves I/O is in effect or named as refused") {
  CHECK(in_child(check_protection) == 0);
}

TEST_CASE("without privilege the refused protections are named") {
  NEEDS(::geteuid() == 0, "root, to give privilege up");
  CHECK(in_child([] {
          if (::setresuid(65534, 65534, 65534) != 0) return 100;
          const auto refused = protect_io_process();
          return names(refused, "PR_SET_IO_FLUSHER") && names(refused, "oom_score_adj") ? 0 : 1;
        }) == 0);
}

TEST_CASE("an I/O thread has a name, no signals, and a stack that is locked") {
  std::string name;
  sigset_t blocked;
  ::sigemptyset(&blocked);
  std::thread([&] {
    enter_io_thread("io-test");
    char text[16] = {};
    ::prctl(PR_GET_NAME, text, 0, 0, 0);
    name = text;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  }).join();
  CHECK(name == "io-test");
  CHECK(::sigismember(&blocked, SIGTERM) == 1);
  CHECK(::sigismember(&blocked, SIGUSR1) == 1);
}
