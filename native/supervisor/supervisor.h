// Supervisor: runs one program, keeps the descriptors that it wants kept, and starts it again with them when
// it has died. What systemd does for a service with FileDescriptorStoreMax= and Restart=always, for where
// there is no systemd. It starts a successor only when all of the predecessor's threads have ended, which
// waitpid(2) says: until then one of them may still be writing.
//
// It ends with the program's status when that keeps nothing any more: it has stopped in good order, or never
// began; and also when it was told to stop twice and ends well: it has given up what it keeps. Signals that
// stop or reload are passed on. One that is to stop it waits until the program is ready, or has lived for
// some seconds: before, it may die of what was to end it in good order, and come back.
//
// Threads: one, which blocks every signal that it waits for. Ownership: owns everything below it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "supervisor/descriptor_keeper.h"
#include "supervisor/notify_listener.h"
#include "supervisor/restart_pause.h"

namespace afterimage {

class Supervisor {
 public:
  /// `program`: path and arguments.
  Supervisor(std::vector<std::string> program, NotifyListener listener);
  /// Returns the exit status that stands for the program's: its own, or 128 + the signal that ended it.
  int run();

 private:
  using Clock = std::chrono::steady_clock;

  bool start();
  [[noreturn]] void become_program() const;
  void listen();
  void signalled(int signal);
  bool hears_stops() const;
  void pass_stops_on();
  int poll_ms() const;
  bool is_over(int status) const;
  void pause_before_restart();

  const std::vector<std::string> program_;
  const NotifyListener listener_;
  DescriptorKeeper keeper_;
  Fd signals_;
  pid_t child_ = -1;        // -1: none
  bool was_ready_ = false;  // in this life
  int stop_signal_ = 0;     // the last that is to stop the program; 0: none
  int stops_ = 0;           // how often it was told to
  int stops_unheard_ = 0;   // to be passed on as soon as it hears them
  Clock::time_point started_;
  RestartPause pause_;
};

}  // namespace afterimage
