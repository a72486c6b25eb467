// PathTurn: the turn of one of those in this process that use the file at a path, in the order in which they
// drew, one at a time. The thread of a dirty log that was let go of while its disk hung is still at its file,
// and would write to the next one's, or withdraw it. What became of the file is handed on from turn to turn,
// also where nobody has the next one yet.
//
// Threads: drawn and destroyed by any; wait() and what follows it by one, which waits for those before it,
// however long that takes. Ownership: has its place in the line.
#pragma once

#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <string>

namespace afterimage {

class PathTurn {
 public:
  /// Throws std::bad_alloc; nothing else here needs memory.
  explicit PathTurn(const std::string& path) {
    const std::lock_guard lock(lines().mutex);
    line_ = lines().of.try_emplace(path).first;
    line_->second.waiting.push_back(this);
  }
  ~PathTurn() {
    const std::lock_guard lock(lines().mutex);
    line_->second.waiting.remove(this);
    if (line_->second.waiting.empty() && !line_->second.is_refuted) lines().of.erase(line_);
    lines().changed.notify_all();
  }
  PathTurn(const PathTurn&) = delete;
  PathTurn& operator=(const PathTurn&) = delete;

  void wait() {
    std::unique_lock lock(lines().mutex);
    lines().changed.wait(lock, [this] { return line_->second.waiting.front() == this; });
  }
  /// Whether the one before left a file that is not to be believed.
  bool is_refuted() const {
    const std::lock_guard lock(lines().mutex);
    return line_->second.is_refuted;
  }
  void leave(bool is_refuted) {
    const std::lock_guard lock(lines().mutex);
    line_->second.is_refuted = is_refuted;
  }

 private:
  struct Line {
    std::list<const PathTurn*> waiting;  // the first has its turn
    bool is_refuted = false;
  };
  struct Lines {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::string, Line> of;
  };
  /// Never destroyed: such a thread may outlive everything.
  static Lines& lines() {
    static Lines* const all = new Lines;
    return *all;
  }
  std::map<std::string, Line>::iterator line_;
};

}  // namespace afterimage
