// PathTurn: of those in this process that use the file at a path, one at a time. The thread of a dirty log
// that was let go of while its disk hung is still at its file, and would write to the next one's, or withdraw
// it.
//
// Threads: any; the constructor waits for the one before, however long that takes. Ownership: copies the
// path.
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <string>

namespace afterimage {

class PathTurn {
 public:
  explicit PathTurn(const std::string& path) : path_(path) {
    std::unique_lock lock(taken().mutex);
    taken().changed.wait(lock, [this] { return taken().paths.insert(path_).second; });
  }
  ~PathTurn() {
    const std::lock_guard lock(taken().mutex);
    taken().paths.erase(path_);
    taken().changed.notify_all();
  }
  PathTurn(const PathTurn&) = delete;
  PathTurn& operator=(const PathTurn&) = delete;

 private:
  struct Taken {
    std::mutex mutex;
    std::condition_variable changed;
    std::set<std::string> paths;
  };
  /// Never destroyed: such a thread may outlive everything.
  static Taken& taken() {
    static Taken* const all = new Taken;
    return *all;
  }
  const std::string path_;
};

}  // namespace afterimage
