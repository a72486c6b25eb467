// FaultRules: which operation is to go wrong, and how. Rules are added and taken away while the directory
// serves.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace afterimage::fault {

enum class Effect : uint8_t {
  kFail,   // nothing is done, `error` is answered
  kShort,  // of a write only the first `bytes` are done, and their number is answered
  kTorn,   // of a write every second sector of 512 bytes is done, from the `bytes`-th byte on, and `error` is
           // answered
  kDelay,  // done after `microseconds`
};

struct Rule {
  uint64_t id = 0;
  /// any, read, write, truncate, fallocate, create, open, rename, unlink, link, mkdir, sync (of a file),
  /// syncdir
  std::string operation;
  /// fnmatch(3) against the path that a file had when it was opened, from the root; `*` goes over `/` too
  std::string path;
  Effect effect = Effect::kFail;
  int error = 0;
  uint64_t bytes = 0;
  uint64_t microseconds = 0;
  uint64_t after = 0;  // so many that match are spared first
  uint64_t times = 0;  // then so many are struck; 0: all
  uint64_t seen = 0;
  uint64_t struck = 0;
};

class FaultRules {
 public:
  /// What a client says, without the verb: "op=write path=*.seg do=fail errno=ENOSPC after=10 times=1". Null
  /// and a reason when it cannot be understood.
  std::optional<uint64_t> add(std::string_view words, std::string* reason);
  /// One, or with 0 all of them.
  void clear(uint64_t id);
  /// Of each rule: "ID SEEN STRUCK\n".
  std::string report();

  /// The rule that strikes this one, counted; nothing when none does. Rules are asked in the order of their
  /// addition; delays add up in `*microseconds`.
  std::optional<Rule> strike(std::string_view operation, const std::string& path, uint64_t* microseconds);

 private:
  std::mutex mutex_;
  uint64_t last_id_ = 0;
  std::list<Rule> rules_;
};

}  // namespace afterimage::fault
