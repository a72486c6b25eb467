// What a process and its threads need in order to serve I/O that the machine itself depends on: if they wait
// for memory, the memory may be waiting for them.
//
// Threads: protect_io_process() once, from the thread that will start the I/O threads (PR_SET_IO_FLUSHER is
// inherited by threads started later, and by children). enter_io_thread() by each I/O thread and
// enter_thread() by each other one, first thing.
#pragma once

#include <string>
#include <vector>

namespace afterimage {

/// PR_SET_IO_FLUSHER (reclaim on behalf of this process never waits for I/O), no OOM kill, and the text of
/// the I/O path locked. Does what it may and returns one sentence for each thing that was not permitted, for
/// the log.
std::vector<std::string> protect_io_process();

/// Names the thread (15 characters are kept) and blocks every signal: handlers belong to the main thread, and
/// none interrupts a system call of this one.
void enter_thread(const std::string& name);

/// enter_thread() for one that serves I/O: also sets PR_SET_IO_FLUSHER, and pins the part of the stack that
/// the I/O path uses. Best effort: protect_io_process() has already reported what is not permitted.
void enter_io_thread(const std::string& name);

}  // namespace afterimage
