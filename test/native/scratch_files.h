// Files, loop disks and small file systems for a test, all gone with the object that made them, also when the
// test fails. Loop disks and mounts need root: ask available() or mounted() first, and skip the case without.
#pragma once

#include <cstdint>
#include <string>

namespace afterimage {

class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  std::string path(const std::string& name) const { return root_ + "/" + name; }
  /// Makes `name` anew as a sparse file. Returns its path.
  std::string make_file(const std::string& name, uint64_t bytes) const;
  /// The same, filled with bytes that are not zero.
  std::string make_random_file(const std::string& name, uint64_t bytes) const;

 private:
  std::string root_;
};

/// A loop device over a file. What is flushed to it is in the file.
class LoopDisk {
 public:
  static bool available();
  LoopDisk(const std::string& file, uint32_t sector_bytes);
  ~LoopDisk();
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A tmpfs of limited size, mounted on a new directory.
class SmallFileSystem {
 public:
  SmallFileSystem(const std::string& mount_point, uint64_t bytes);
  ~SmallFileSystem();
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;
  bool mounted() const { return mounted_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace afterimage
