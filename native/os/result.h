// A value or a coded error. Codes are the registry's (proto/errors.ts); `sys` is an errno value or 0.
//
// Threads: plain values, no sharing.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace afterimage {

/// 0, or a positive errno value: what the I/O path returns, since NBD and FUSE both answer with one.
using Errno = int;

struct Error {
  const char* code;     // static string from the registry, e.g. "FRAME_CORRUPT"
  std::string message;  // what happened, to what
  Errno sys = 0;        // the errno behind it, 0 if none
};

/// Error for a failed system call: `what` names the call and its subject ("open /dev/vdb").
Error system_error(const char* code, const std::string& what, Errno sys);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Error error) : value_(std::move(error)) {}
  bool ok() const { return std::holds_alternative<T>(value_); }
  T& operator*() { return std::get<T>(value_); }
  const T& operator*() const { return std::get<T>(value_); }
  T* operator->() { return &std::get<T>(value_); }
  const T* operator->() const { return &std::get<T>(value_); }
  const Error& error() const { return std::get<Error>(value_); }

 private:
  std::variant<T, Error> value_;
};

struct Nothing {};
using Outcome = Result<Nothing>;

}  // namespace afterimage
