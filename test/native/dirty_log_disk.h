// DirtyLogDisk: the file layer of a dirty log that knows what a power loss could leave. It takes part in the
// real writing of the log, keeps what was durable at the last sync and every write since, and shows states of
// the disk to whoever watches: at every call, any of the un-synced writes there, absent, or torn between
// sectors.
//
// Threads: as JournalFile. Ownership: owns what it remembers; the files are the test's.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "journal/journal_file.h"
#include "os/fd.h"

namespace afterimage {

using DiskBytes = std::vector<std::byte>;

inline DiskBytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  DiskBytes bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}
inline void write_file(const std::string& path, const DiskBytes& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// Syncs nothing: for the many states that are only looked at.
class UnsyncedFile : public JournalFile {
 public:
  Errno fdatasync(int) override { return 0; }
  Errno fsync(int) override { return 0; }
};

/// Whose disk takes no changes while it is read-only.
class ReadOnlyFile : public JournalFile {
 public:
  Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) override {
    return is_read_only ? EROFS : JournalFile::pwritev(fd, pieces, count, offset, written);
  }
  Errno fsync(int fd) override { return is_read_only ? EIO : JournalFile::fsync(fd); }
  std::atomic<bool> is_read_only{false};
};

/// What lies at the path cannot be unlinked either.
inline void take_no_changes(const std::string& path, const std::string& kept, ReadOnlyFile& file) {
  REQUIRE(::rename(path.c_str(), kept.c_str()) == 0);
  REQUIRE(::mkdir(path.c_str(), 0700) == 0);
  file.is_read_only = true;
}
inline void restore_names(const std::string& path, const std::string& kept) {
  REQUIRE(::rmdir(path.c_str()) == 0);
  REQUIRE(::rename(kept.c_str(), path.c_str()) == 0);
}

class DirtyLogDisk final : public JournalFile {
 public:
  static constexpr size_t kSector = 512;

  /// What the file is now is on stable storage.
  explicit DirtyLogDisk(const std::string& path) : durable_(read_file(path)) {}

  Errno pwritev(int fd, const iovec* pieces, int count, uint64_t offset, uint64_t* written) override {
    tell();
    if (const Errno error = UnsyncedFile().pwritev(fd, pieces, count, offset, written)) return error;
    DiskBytes bytes;
    for (int i = 0; i < count; ++i) {
      const auto* const from = static_cast<const std::byte*>(pieces[i].iov_base);
      bytes.insert(bytes.end(), from, from + pieces[i].iov_len);
    }
    bytes.resize(*written);
    unsynced_.push_back({offset, std::move(bytes)});
    return 0;
  }
  Errno fdatasync(int) override {
    tell();
    ++syncs;
    for (const Write& write : unsynced_) apply(&durable_, write, write.bytes.size());
    unsynced_.clear();
    return 0;
  }
  Errno fsync(int fd) override { return fdatasync(fd); }

  /// A legal state of the disk, should power be lost now.
  template <typename Random>
  DiskBytes state(Random& random) const {
    DiskBytes disk = durable_;
    for (const Write& write : unsynced_) {
      switch (random() % 4) {
        case 0:
          break;
        case 1:
          apply(&disk, write, write.bytes.size());
          break;
        case 2:  // cut at any byte
          apply(&disk, write, random() % (write.bytes.size() + 1));
          break;
        default:  // any of its sectors
          for (size_t at = 0; at < write.bytes.size(); at += kSector) {
            if (random() % 2 == 0) continue;
            const size_t end = std::min(at + kSector, write.bytes.size());
            apply(&disk,
                  {write.offset + at, DiskBytes(write.bytes.begin() + static_cast<ptrdiff_t>(at),
                                                write.bytes.begin() + static_cast<ptrdiff_t>(end))},
                  end - at);
          }
      }
    }
    return disk;
  }

  std::function<void(const DirtyLogDisk&)> watch;  // at every call, before it is carried out
  uint64_t syncs = 0;

 private:
  struct Write {
    uint64_t offset;
    DiskBytes bytes;
  };
  static void apply(DiskBytes* disk, const Write& write, size_t length) {
    if (disk->size() < write.offset + length) disk->resize(write.offset + length);
    std::copy_n(write.bytes.begin(), length, disk->begin() + static_cast<ptrdiff_t>(write.offset));
  }
  void tell() const {
    if (watch) watch(*this);
  }

  DiskBytes durable_;
  std::vector<Write> unsynced_;
};

}  // namespace afterimage
