#include "os/io_thread.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "capture/capture_group.h"
#include "journal/journal_writer.h"
#include "prerequisite.h"
#include "scratch_files.h"

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

/// The mask of the signals that the thread of this name blocks; 0 while there is none.
uint64_t blocked_signals(const std::string& name) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    bool is_it = false;
    for (std::string line; std::getline(status, line);) {
      is_it = is_it || line == "Name:\t" + name;
      if (is_it && line.rfind("SigBlk:", 0) == 0) return std::strtoull(line.c_str() + 7, nullptr, 16);
    }
  }
  return 0;
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

// Symptom: a signal of the process could be delivered to the pump's or the journal's thread, where it
// interrupted an fdatasync that was then taken for failed, and ran its handler off the main thread. If it
// returns, these threads do not block all that can be blocked.
TEST_CASE("threads that work behind the main one take no signals") {
  const auto group = CaptureGroup::create({.ring_bytes = kRingBytesMin});
  REQUIRE(group.ok());
  const ScratchDirectory directory;
  const auto writer = JournalWriter::open({.directory = directory.path(".")}, {}, nullptr);
  REQUIRE(writer.ok());
  for (const std::string name : {"frame-pump", "journal-writer"}) {
    CAPTURE(name);
    uint64_t blocked = 0;
    for (int patience = 0; patience < 1000 && blocked == 0; ++patience) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      blocked = blocked_signals(name);
    }
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGALRM})
      CHECK((blocked >> (signal - 1) & 1) == 1);
  }
}
