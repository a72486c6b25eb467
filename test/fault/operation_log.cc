#include "operation_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace afterimage::fault {
namespace {

constexpr size_t kPendingBytesMax = 4u << 20;

/// As it lies in the file, little endian: followed by path, target and data.
struct __attribute__((packed)) Header {
  uint32_t bytes;  // of the whole entry
  uint8_t kind;
  uint8_t is_data_only;
  uint16_t path_bytes;
  uint16_t target_bytes;
  uint16_t reserved;
  int32_t error;
  uint64_t begin;
  uint64_t end;
  uint64_t begin_ns;
  uint64_t end_ns;
  uint64_t file;
  uint64_t offset;
  uint64_t length;
  uint32_t data_bytes;
};
static_assert(sizeof(Header) == 76);

void append(std::vector<std::byte>* to, const void* data, size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  to->insert(to->end(), from, from + bytes);
}

}  // namespace

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

OperationLog::OperationLog(const std::string& file)
    : fd_(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
  if (fd_ >= 0) return;
  std::fprintf(stderr, "%s: %s\n", file.c_str(), std::strerror(errno));
  std::exit(1);
}

OperationLog::~OperationLog() {
  flush();
  ::close(fd_);
}

void OperationLog::begin(Operation* operation) {
  const std::lock_guard lock(mutex_);
  operation->begin = ++moment_;
  operation->begin_ns = monotonic_ns();
}

void OperationLog::end(Operation* operation, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  operation->end = ++moment_;
  operation->end_ns = monotonic_ns();
  const Header header{
      .bytes = static_cast<uint32_t>(sizeof(Header) + operation->path.size() + operation->target.size() +
                                     data.size()),
      .kind = static_cast<uint8_t>(operation->kind),
      .is_data_only = operation->is_data_only ? uint8_t{1} : uint8_t{0},
      .path_bytes = static_cast<uint16_t>(operation->path.size()),
      .target_bytes = static_cast<uint16_t>(operation->target.size()),
      .reserved = 0,
      .error = operation->error,
      .begin = operation->begin,
      .end = operation->end,
      .begin_ns = operation->begin_ns,
      .end_ns = operation->end_ns,
      .file = operation->file,
      .offset = operation->offset,
      .length = operation->length,
      .data_bytes = static_cast<uint32_t>(data.size()),
  };
  append(&pending_, &header, sizeof header);
  append(&pending_, operation->path.data(), operation->path.size());
  append(&pending_, operation->target.data(), operation->target.size());
  append(&pending_, data.data(), data.size());
  if (pending_.size() >= kPendingBytesMax) flush_locked();
}

void OperationLog::flush() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

uint64_t OperationLog::moment() {
  const std::lock_guard lock(mutex_);
  return moment_;
}

void OperationLog::flush_locked() {
  for (size_t done = 0; done < pending_.size();) {
    const ssize_t n = ::write(fd_, pending_.data() + done, pending_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      // A record with a hole would be believed.
      std::perror("operation log");
      std::abort();
    }
    done += static_cast<size_t>(n);
  }
  pending_.clear();
}

}  // namespace afterimage::fault
