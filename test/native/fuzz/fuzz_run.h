// What every fuzzer needs around its loop: options that are refused when they cannot be read, and floors
// under what it reached. A fuzzer whose every input is refused at the first check finds nothing and looks
// well; so each counts how often it got deep, and a run that got there too rarely ends with 2. The floors are
// shares of the run's own steps, not of time: a slow machine takes fewer steps, as deep ones.
#pragma once

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

namespace afterimage::test {

/// The exit status of a run that was not asked for properly, or that explored too little to say anything.
constexpr int kFuzzedNothing = 2;

class FuzzRun {
 public:
  /// Reads [--seed N] [--seconds S] and prints the seed; ends the process if there is anything else.
  FuzzRun(const char* name, int argc, char** argv) : name_(name) {
    uint64_t seconds = 10;
    for (int i = 1; i < argc; i += 2) {
      uint64_t* const value = std::strcmp(argv[i], "--seed") == 0      ? &seed_
                              : std::strcmp(argv[i], "--seconds") == 0 ? &seconds
                                                                       : nullptr;
      if (value == nullptr || i + 1 == argc || !parse(argv[i + 1], value)) {
        std::fprintf(stderr, "fuzz %s: no option: %s; usage: [--seed N] [--seconds S]\n", name, argv[i]);
        std::exit(kFuzzedNothing);
      }
    }
    end_ = Clock::now() + std::chrono::seconds(seconds);
    std::printf("fuzz %s: seed %llu\n", name, static_cast<unsigned long long>(seed_));
    std::fflush(stdout);
  }

  uint64_t seed() const { return seed_; }
  /// From any thread.
  bool is_over() const { return Clock::now() >= end_; }

  /// Prints how often the run came to `what`, and notes when that was less than one in `one_in` of `steps`.
  void expect(const char* what, uint64_t count, uint64_t steps, uint64_t one_in) {
    std::printf("fuzz %s: %llu %s\n", name_, static_cast<unsigned long long>(count), what);
    if (count > 0 && count >= steps / one_in) return;
    is_shallow_ = true;
    std::printf("fuzz %s: TOO SHALLOW: fewer than one in %llu of %llu steps came to: %s\n", name_,
                static_cast<unsigned long long>(one_in), static_cast<unsigned long long>(steps), what);
  }
  int exit_status() const { return is_shallow_ ? kFuzzedNothing : 0; }

 private:
  using Clock = std::chrono::steady_clock;

  static bool parse(const char* text, uint64_t* value) {
    const char* const end = text + std::strlen(text);
    const auto [rest, error] = std::from_chars(text, end, *value);
    return error == std::errc() && rest == end && rest != text;
  }

  const char* const name_;
  uint64_t seed_ = std::random_device{}();
  Clock::time_point end_;
  bool is_shallow_ = false;
};

}  // namespace afterimage::test
