#include "journal/block_writer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <random>
#include <string>
#include <vector>

#include "os/fd.h"
#include "scratch_files.h"
#include "writer_fixture.h"

using namespace afterimage;

namespace {

constexpr uint64_t kFileBytes = 16 << 20;

std::string content_of(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string content(kFileBytes, '\0');
  content.resize(static_cast<size_t>(::pread(fd.get(), content.data(), content.size(), 0)));
  return content;
}

/// Appends in pieces of all sizes, opening the file anew now and then; the file holds what was appended, and
/// zeroes behind it, at each step.
void append_all(JournalFile* file, std::minstd_rand random, bool* was_direct) {
  const ScratchDirectory directory;
  const std::string path = directory.make_file("file", kFileBytes);
  std::string expected;
  std::unique_ptr<BlockWriter> writer;
  Fd fd;
  const auto between = [&](uint64_t least, uint64_t most) { return least + random() % (most - least + 1); };
  for (int round = 0; round < 40; ++round) {
    if (round % 8 == 0) {
      writer.reset();
      fd.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      REQUIRE(BlockWriter::open(file, fd.get(), expected.size(), &writer) == 0);
      *was_direct = writer->is_direct();
    }
    std::vector<std::string> content;
    for (uint64_t pieces = between(1, 4); pieces > 0; --pieces) {
      const uint64_t bytes = round % 13 == 5 ? between(1'000'000, 1'400'000) : between(0, 9000);
      content.emplace_back(bytes, static_cast<char>('a' + random() % 26));
    }
    std::vector<iovec> pieces;
    for (std::string& piece : content) {
      pieces.push_back({piece.data(), piece.size()});
      expected += piece;
    }
    REQUIRE(writer->append(pieces) == 0);
    REQUIRE(writer->end() == expected.size());
    const std::string found = content_of(path);
    REQUIRE(found.size() == kFileBytes);
    REQUIRE(found.compare(0, expected.size(), expected) == 0);
    REQUIRE(found.find_first_not_of('\0', expected.size()) == std::string::npos);
  }
}

}  // namespace

TEST_CASE("what was appended is there, wherever blocks end") {
  bool was_direct = false;
  append_all(&JournalFile::system(), std::minstd_rand(1), &was_direct);
  const char* const way = was_direct ? "by direct I/O" : "through the page cache";
  MESSAGE(way);
}

TEST_CASE("a file that takes less than it is given is written through the page cache") {
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{100}, uint64_t{4096}, uint64_t{5000}}) {
    FaultyFile file;
    file.write_bytes_max = bytes * 1000;  // of the few large writes
    bool was_direct = false;
    append_all(&file, std::minstd_rand(static_cast<uint32_t>(bytes)), &was_direct);
  }
  FaultyFile file;
  file.write_bytes_max = 777;
  bool was_direct = false;
  append_all(&file, std::minstd_rand(7), &was_direct);
}

TEST_CASE("after a failed write what is before the end is as it was") {
  const ScratchDirectory directory;
  const std::string path = directory.make_file("file", kFileBytes);
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  FaultyFile file;
  std::unique_ptr<BlockWriter> writer;
  REQUIRE(BlockWriter::open(&file, fd.get(), 0, &writer) == 0);
  std::string first(5000, 'x');
  std::string second(3 << 20, 'y');
  const iovec piece{first.data(), first.size()};
  REQUIRE(writer->append({&piece, 1}) == 0);
  file.fail_call = "pwritev";
  file.fail_at = 2;
  file.fail_with = EIO;
  const iovec failing{second.data(), second.size()};
  CHECK(writer->append({&failing, 1}) == EIO);
  CHECK(writer->end() == first.size());
  CHECK(content_of(path).compare(0, first.size(), first) == 0);
}

TEST_CASE("a file that is shorter than was said is an error") {
  const ScratchDirectory directory;
  const std::string path = directory.make_file("file", 100);
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  std::unique_ptr<BlockWriter> writer;
  CHECK(BlockWriter::open(&JournalFile::system(), fd.get(), 200, &writer) == EIO);
}
