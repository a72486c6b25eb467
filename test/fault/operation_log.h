// OperationLog: what was done to a directory, in order, as a file that a program can play back.
//
// Threads: any. Ownership: owns its descriptor; borrows what it is given only for the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace afterimage::fault {

/// Their numbers are the file's (test/fault/operation_log.ts).
enum class Kind : uint8_t {
  kCreate = 1,
  kWrite = 2,
  kTruncate = 3,
  kFallocate = 4,
  kRename = 5,
  kUnlink = 6,
  kLink = 7,
  kMakeDirectory = 8,
  kRemoveDirectory = 9,
  kSync = 10,
  kSyncDirectory = 11,
  kExists = 12,  // was there before anything was recorded
};

/// One operation. `begin` and `end` are moments: every beginning and every end takes the next number, so that
/// what was under way at a moment can be told from what was over.
struct Operation {
  Kind kind{};
  bool is_data_only = false;  // fdatasync
  int error = 0;              // errno; 0: done
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t begin_ns = 0;  // CLOCK_MONOTONIC, which all processes of a machine share
  uint64_t end_ns = 0;
  uint64_t file = 0;  // number of the file, never given twice; 0: of a directory, which is known by its path
  uint64_t offset = 0;   // write, fallocate; truncate: the new size
  uint64_t length = 0;   // write, fallocate
  std::string path{};    // from the root of the directory, "/a/b"
  std::string target{};  // rename, link: the new name
};

class OperationLog {
 public:
  /// Truncates `file`. Exits with a message when it cannot be made: there is nobody to tell.
  explicit OperationLog(const std::string& file);
  ~OperationLog();
  OperationLog(const OperationLog&) = delete;
  OperationLog& operator=(const OperationLog&) = delete;

  void begin(Operation* operation);
  /// Sets its end, and appends it with the bytes of a write.
  void end(Operation* operation, std::span<const std::byte> data = {});
  void flush();
  /// The moment that was given last.
  uint64_t moment();

 private:
  void flush_locked();

  int fd_;
  std::mutex mutex_;
  uint64_t moment_ = 0;
  std::vector<std::byte> pending_;
};

uint64_t monotonic_ns();

}  // namespace afterimage::fault
