#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace afterimage {
namespace {

using std::chrono::milliseconds;

constexpr int kFirstDescriptor = 3;  // SD_LISTEN_FDS_START
constexpr int kCannotRun = 127;      // as a shell says it
/// Far longer than a program takes to listen to signals. One that is never ready, since it only serves or
/// tries again what fails, is to end in good order too.
constexpr milliseconds kHearsAfter{3000};
constexpr std::array<int, 6> kPassedOn{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

void say(const std::string& text) { std::fprintf(stderr, "afterimage-supervisor: %s\n", text.c_str()); }

bool stops(int signal) { return signal == SIGTERM || signal == SIGINT; }

int exit_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

std::string describe(int status) {
  if (WIFEXITED(status)) return "status " + std::to_string(WEXITSTATUS(status));
  return "signal " + std::to_string(WTERMSIG(status));
}

}  // namespace

Supervisor::Supervisor(std::vector<std::string> program, NotifyListener listener)
    : program_(std::move(program)), listener_(std::move(listener)) {}

int Supervisor::run() {
  sigset_t waited;
  ::sigemptyset(&waited);
  ::sigaddset(&waited, SIGCHLD);
  for (const int signal : kPassedOn) ::sigaddset(&waited, signal);
  ::sigprocmask(SIG_BLOCK, &waited, nullptr);
  signals_ = Fd(::signalfd(-1, &waited, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_ || !start()) {
    say(std::string("cannot start: ") + std::strerror(errno));
    return kCannotRun;
  }
  for (;;) {
    std::array<pollfd, 2> sources{{{signals_.get(), POLLIN, 0}, {listener_.descriptor(), POLLIN, 0}}};
    ::poll(sources.data(), sources.size(), poll_ms());
    listen();
    signalfd_siginfo signal;
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal)
      signalled(static_cast<int>(signal.ssi_signo));
    pass_stops_on();
    int status = 0;
    if (::waitpid(child_, &status, WNOHANG) != child_) continue;
    listen();  // its last words
    child_ = -1;
    if (is_over(status)) return exit_status(status);
    say(program_.front() + " ended with " + describe(status) + "; " + std::to_string(keeper_.kept().size()) +
        " descriptors wait for its successor");
    pause_before_restart();
    while (!start()) {
      say(std::string("cannot start: ") + std::strerror(errno));
      pause_before_restart();
    }
  }
}

bool Supervisor::start() {
  keeper_.forget_ready();
  was_ready_ = false;
  started_ = Clock::now();
  // Whoever was told to stop and died over it has left that to this one.
  if (stop_signal_ != 0 && stops_unheard_ == 0) stops_unheard_ = 1;
  child_ = ::fork();
  if (child_ == 0) become_program();
  return child_ > 0;
}

void Supervisor::become_program() const {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setpgid(0, 0);  // a Ctrl-C in a terminal is for the supervisor, which passes it on: not twice
  const auto& kept = keeper_.kept();
  const auto count = static_cast<int>(kept.size());
  // Out of the way of each other first: any of them may lie where another belongs.
  std::vector<int> moved;
  moved.reserve(kept.size());
  for (const StoredDescriptor& one : kept)
    moved.push_back(::fcntl(one.descriptor.get(), F_DUPFD_CLOEXEC, kFirstDescriptor + count));
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (::dup2(moved[static_cast<size_t>(i)], kFirstDescriptor + i) < 0) ::_exit(kCannotRun);
    names += (i > 0 ? ":" : "") + kept[static_cast<size_t>(i)].name;
  }
  ::setenv("NOTIFY_SOCKET", listener_.address().c_str(), 1);
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : program_) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments.front(), arguments.data());
  say(program_.front() + ": " + std::strerror(errno));
  ::_exit(kCannotRun);
}

void Supervisor::listen() {
  NotifyListener::Message message;
  while (child_ > 0 && listener_.receive(child_, &message)) {
    const std::string_view wrong = keeper_.take(message.text, std::move(message.descriptors));
    message.descriptors.clear();  // a barrier's among them: its end is the answer
    if (!wrong.empty()) say(std::string(wrong));
    if (!keeper_.is_ready() || was_ready_) continue;
    was_ready_ = true;
  }
}

bool Supervisor::hears_stops() const { return was_ready_ || Clock::now() - started_ >= kHearsAfter; }

void Supervisor::pass_stops_on() {
  if (child_ <= 0 || !hears_stops()) return;
  for (; stops_unheard_ > 0; --stops_unheard_) ::kill(child_, stop_signal_);
}

/// Until there is something to be done that no descriptor tells of; -1: nothing.
int Supervisor::poll_ms() const {
  if (stops_unheard_ == 0) return -1;
  const auto left = std::chrono::ceil<milliseconds>(started_ + kHearsAfter - Clock::now());
  return static_cast<int>(std::max(left, milliseconds(0)).count());
}

void Supervisor::signalled(int signal) {
  if (signal == SIGCHLD) return;
  if (stops(signal)) {
    stop_signal_ = signal;
    ++stops_;
    if (!hears_stops() && !keeper_.kept().empty()) {
      ++stops_unheard_;
      return;
    }
  }
  if (child_ > 0) ::kill(child_, signal);
}

bool Supervisor::is_over(int status) const {
  const bool has_ended_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!keeper_.kept().empty()) return stops_ > 1 && has_ended_well;
  return !was_ready_ || stop_signal_ != 0 || has_ended_well;
}

void Supervisor::pause_before_restart() {
  const auto died = Clock::now();
  const auto until = died + pause_.after(died - started_, was_ready_);
  const auto left_now = [until] { return std::chrono::duration_cast<milliseconds>(until - Clock::now()); };
  if (left_now().count() > 0) say("which starts in " + std::to_string(left_now().count()) + " ms");
  for (auto left = left_now(); left.count() > 0; left = left_now()) {
    pollfd source{signals_.get(), POLLIN, 0};
    ::poll(&source, 1, static_cast<int>(left.count()));
    signalfd_siginfo signal;
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
      signalled(static_cast<int>(signal.ssi_signo));
      // Whoever wants it stopped waits: it can only stop once it runs.
      if (stops(static_cast<int>(signal.ssi_signo))) return;
    }
  }
}

}  // namespace afterimage
