// FuseSession fed with crafted requests, without a kernel.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <memory>
#include <optional>
#include <string>

#include "frontend/fuse_session.h"
#include "fuse_message.h"
#include "scratch_device.h"

using namespace afterimage;
using namespace afterimage::test;

namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;
constexpr uint64_t kFile = 2;
constexpr uint64_t kSize = 4u << 20;

/// A session over a fresh device, and one slot to feed it from.
struct Desk {
  explicit Desk(bool read_only = false, bool device_marks = true)
      : device(std::make_shared<ScratchDevice>(kSize)), session(device, "volume", read_only) {
    device->set_marks_executed(device_marks);
  }
  std::optional<CollectingSink::Reply> send(const Bytes& message) {
    slot.free();
    std::memcpy(slot.buffer, message.data(), message.size());
    sink.replies.clear();
    session.serve(slot, message.size(), read_buffer, sink);
    CHECK(sink.replies.size() <= 1);
    if (sink.replies.empty()) return std::nullopt;
    CHECK(sink.replies[0].header.len == sizeof(fuse_out_header) + sink.replies[0].body.size());
    return sink.replies[0];
  }
  /// What a successor answers to a request that its predecessor had read into the slot, and marked or not.
  std::optional<CollectingSink::Reply> finish(const Bytes& message, std::optional<Errno> executed) {
    slot.free();
    std::memcpy(slot.buffer, message.data(), message.size());
    if (executed) slot.mark_executed(*executed);
    CHECK(slot.is_occupied());
    sink.replies.clear();
    session.finish(slot, read_buffer, sink);
    CHECK(sink.replies.size() <= 1);
    if (sink.replies.empty()) return std::nullopt;
    return sink.replies[0];
  }
  /// The errno replied to a request that must be answered.
  Errno error_of(const Bytes& message) {
    const auto reply = send(message);
    REQUIRE(reply);
    return -reply->header.error;
  }
  template <typename Argument>
  Argument argument_of(const Bytes& message) {
    const auto reply = send(message);
    REQUIRE(reply);
    REQUIRE(reply->header.error == 0);
    REQUIRE(reply->body.size() == sizeof(Argument));
    Argument argument;
    std::memcpy(&argument, reply->body.data(), sizeof argument);
    return argument;
  }
  Bytes content(uint64_t offset, uint64_t length) {
    Bytes bytes(length);
    CHECK(device->read(offset, length, bytes.data()) == 0);
    return bytes;
  }

  std::shared_ptr<ScratchDevice> device;
  FuseSession session;
  std::unique_ptr<RequestSlots> slots =
      std::move(*RequestSlots::create(1, kFuseRequestBytesMax, kFusePayloadOffset));
  RequestSlots::Slot slot = slots->slot(0);
  CollectingSink sink{slot};
  Bytes read_buffer = Bytes(kFuseIoBytesMax);
};

Bytes write_message(uint64_t offset, const Bytes& payload, uint32_t flags = 0) {
  fuse_write_in in{};
  in.offset = offset;
  in.size = static_cast<uint32_t>(payload.size());
  in.flags = flags;
  return fuse_message(FUSE_WRITE, kFile, fuse_body(in, payload));
}
Bytes read_message(uint64_t offset, uint32_t size) {
  fuse_read_in in{};
  in.offset = offset;
  in.size = size;
  return fuse_message(FUSE_READ, kFile, fuse_body(in));
}
Bytes fallocate_message(uint64_t offset, uint64_t length, int mode) {
  fuse_fallocate_in in{};
  in.offset = offset;
  in.length = length;
  in.mode = static_cast<uint32_t>(mode);
  return fuse_message(FUSE_FALLOCATE, kFile, fuse_body(in));
}
Bytes init_message(uint32_t major, uint32_t minor, uint32_t flags) {
  fuse_init_in in{};
  in.major = major;
  in.minor = minor;
  in.flags = flags;
  return fuse_message(FUSE_INIT, 0, fuse_body(in));
}

}  // namespace

TEST_CASE("a modern kernel is told of large parallel requests and never of a write-back cache") {
  Desk desk;
  const auto out = desk.argument_of<fuse_init_out>(init_message(7, 45, ~0u));
  CHECK(desk.session.is_initialized());
  CHECK(out.major == 7);
  CHECK(out.max_write == 1u << 20);
  CHECK(out.max_pages == 256);
  CHECK(out.max_background >= 64);
  CHECK((out.flags & FUSE_ASYNC_DIO) != 0);
  CHECK((out.flags & FUSE_MAX_PAGES) != 0);
  CHECK((out.flags & FUSE_WRITEBACK_CACHE) == 0);
  CHECK(out.flags2 == 0);
}

TEST_CASE("flags that the kernel did not offer are not asked for") {
  Desk desk;
  CHECK(desk.argument_of<fuse_init_out>(init_message(7, 31, FUSE_ASYNC_READ)).flags == FUSE_ASYNC_READ);
}

TEST_CASE("a kernel before 7.36 sends a short INIT") {
  Desk desk;
  Bytes message = init_message(7, 31, 0);
  message.resize(sizeof(fuse_in_header) + 16);
  const uint32_t length = static_cast<uint32_t>(message.size());
  std::memcpy(message.data(), &length, sizeof length);
  CHECK(desk.error_of(message) == 0);
  CHECK(desk.session.is_initialized());
}

TEST_CASE("a kernel that is too old is refused; one of a later major version is asked to come down") {
  Desk desk;
  CHECK(desk.error_of(init_message(7, 30, ~0u)) == EPROTO);
  CHECK(desk.error_of(init_message(6, 40, ~0u)) == EPROTO);
  CHECK_FALSE(desk.session.is_initialized());
  CHECK(desk.argument_of<fuse_init_out>(init_message(8, 1, ~0u)).major == 7);
  CHECK_FALSE(desk.session.is_initialized());
}

TEST_CASE("the directory holds the one file, with the device's size, for its owner only") {
  Desk desk;
  const auto entry = desk.argument_of<fuse_entry_out>(fuse_message(FUSE_LOOKUP, kRoot, fuse_name("volume")));
  CHECK(entry.nodeid == kFile);
  CHECK(entry.attr.size == kSize);
  CHECK(entry.attr.mode == (S_IFREG | 0600));
  CHECK(desk.error_of(fuse_message(FUSE_LOOKUP, kRoot, fuse_name("volum"))) == ENOENT);
  CHECK(desk.error_of(fuse_message(FUSE_LOOKUP, kFile, fuse_name("volume"))) == ENOENT);
  const auto root =
      desk.argument_of<fuse_attr_out>(fuse_message(FUSE_GETATTR, kRoot, fuse_body(fuse_getattr_in{})));
  CHECK(S_ISDIR(root.attr.mode));
  CHECK(desk.error_of(fuse_message(FUSE_GETATTR, 3, fuse_body(fuse_getattr_in{}))) == ENOENT);
}

TEST_CASE("a name without its end is refused") {
  Desk desk;
  Bytes unterminated = fuse_name("volume");
  unterminated.pop_back();
  CHECK(desk.error_of(fuse_message(FUSE_LOOKUP, kRoot, unterminated)) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_LOOKUP, kRoot, {})) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_LOOKUP, kRoot, fuse_name(""))) == EINVAL);
}

TEST_CASE("the directory is listed across short reads") {
  Desk desk;
  std::vector<std::string> names;
  fuse_read_in in{};
  in.size = 40;  // room for one entry at a time
  for (;;) {
    const auto reply = desk.send(fuse_message(FUSE_READDIR, kRoot, fuse_body(in)));
    REQUIRE(reply);
    REQUIRE(reply->header.error == 0);
    if (reply->body.empty()) break;
    CHECK(reply->body.size() <= in.size);
    fuse_dirent entry;
    std::memcpy(&entry, reply->body.data(), FUSE_NAME_OFFSET);
    REQUIRE(FUSE_NAME_OFFSET + entry.namelen <= reply->body.size());
    names.emplace_back(reinterpret_cast<const char*>(reply->body.data()) + FUSE_NAME_OFFSET, entry.namelen);
    in.offset = entry.off;
    REQUIRE(names.size() <= 3);
  }
  CHECK(names == std::vector<std::string>{".", "..", "volume"});
  in.offset = ~uint64_t{0};
  CHECK(desk.send(fuse_message(FUSE_READDIR, kRoot, fuse_body(in)))->body.empty());
}

TEST_CASE("the file is opened for direct and parallel I/O") {
  Desk desk;
  fuse_open_in in{};
  in.flags = O_RDWR;
  const auto out = desk.argument_of<fuse_open_out>(fuse_message(FUSE_OPEN, kFile, fuse_body(in)));
  CHECK(out.open_flags == (FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES));
}

TEST_CASE("what is written is read back, and a read ends where the file ends") {
  Desk desk;
  const Bytes payload(8192, std::byte{0x5a});
  CHECK(desk.argument_of<fuse_write_out>(write_message(4096, payload)).size == 8192);
  const auto reply = desk.send(read_message(4096, 8192));
  REQUIRE(reply);
  CHECK(reply->body == payload);
  CHECK(desk.send(read_message(kSize - 512, 4096))->body.size() == 512);
  CHECK(desk.send(read_message(kSize, 4096))->body.empty());
  CHECK(desk.send(read_message(~uint64_t{0}, 4096))->body.empty());
  CHECK(desk.device->calls.unaligned_payloads == 0);
}

TEST_CASE("a write beyond the end changes nothing, whatever its offset wraps to") {
  Desk desk;
  const Bytes payload(4096, std::byte{1});
  CHECK(desk.error_of(write_message(kSize - 512, payload)) == ENOSPC);
  CHECK(desk.error_of(write_message(~uint64_t{0} - 511, payload)) == ENOSPC);
  CHECK(is_zero(desk.content(kSize - 512, 512).data(), 512));
}

TEST_CASE("a write that lies about its length is refused untouched") {
  Desk desk;
  for (const int32_t lie : {-4096, -1, 1, 4096, 1 << 30}) {
    Bytes message = write_message(0, Bytes(4096, std::byte{1}));
    fuse_write_in in;
    std::memcpy(&in, message.data() + sizeof(fuse_in_header), sizeof in);
    in.size = static_cast<uint32_t>(static_cast<int32_t>(in.size) + lie);
    std::memcpy(message.data() + sizeof(fuse_in_header), &in, sizeof in);
    CHECK(desk.error_of(message) == EINVAL);
  }
  CHECK(desk.device->calls.writes == 0);
}

TEST_CASE("a read larger than any that was agreed is refused") {
  Desk desk;
  CHECK(desk.error_of(read_message(0, kFuseIoBytesMax + 1)) == EINVAL);
  CHECK(desk.error_of(read_message(0, ~0u)) == EINVAL);
  CHECK(desk.device->calls.reads == 0);
}

TEST_CASE("every kind of request, cut short at every byte of its argument, is refused or ignored") {
  Desk desk;
  for (uint32_t opcode = 0; opcode <= 60; ++opcode) {
    for (size_t bytes = 0; bytes <= 160; bytes += 4) {
      desk.send(fuse_message(opcode, kFile, Bytes(bytes, std::byte{0xff})));
      desk.send(fuse_message(opcode, kRoot, Bytes(bytes)));
    }
  }
  CHECK(desk.device->calls.trims == 0);
  CHECK(desk.error_of(fuse_message(FUSE_WRITE, kFile, Bytes(sizeof(fuse_write_in) - 1))) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_READ, kFile, Bytes(sizeof(fuse_read_in) - 1))) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_FALLOCATE, kFile, Bytes(sizeof(fuse_fallocate_in) - 1))) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_FSYNC, kFile, Bytes(sizeof(fuse_fsync_in) - 1))) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_SETATTR, kFile, Bytes(sizeof(fuse_setattr_in) - 1))) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_OPEN, kFile, Bytes(sizeof(fuse_open_in) - 1))) == EINVAL);
  CHECK(desk.error_of(fuse_message(FUSE_INIT, 0, Bytes(12))) == EINVAL);
}

TEST_CASE("bytes that are no whole request are dropped without an answer") {
  Desk desk;
  Bytes message = read_message(0, 512);
  CHECK_FALSE(desk.send(Bytes(message.begin(), message.begin() + sizeof(fuse_in_header) - 1)));
  CHECK_FALSE(desk.send(Bytes(message.begin(), message.end() - 1)));
  message.push_back(std::byte{0});
  CHECK_FALSE(desk.send(message));
  message = read_message(0, 512);
  reinterpret_cast<fuse_in_header*>(message.data())->total_extlen = 0xffff;
  CHECK_FALSE(desk.send(message));
}

TEST_CASE("extensions at a request's end are not taken for payload") {
  Desk desk;
  Bytes message = write_message(0, Bytes(512, std::byte{1}));
  message.insert(message.end(), 16, std::byte{0xee});
  auto* const header = reinterpret_cast<fuse_in_header*>(message.data());
  header->total_extlen = 2;
  header->len += 16;
  CHECK(desk.error_of(message) == 0);
  CHECK(desk.content(0, 512) == Bytes(512, std::byte{1}));
  CHECK(is_zero(desk.content(512, 512).data(), 512));
}

TEST_CASE("O_DSYNC makes a write durable before its reply, FSYNC flushes, FLUSH and RELEASE do not") {
  Desk desk;
  desk.send(write_message(0, Bytes(512)));
  CHECK(desk.device->calls.fua_writes == 0);
  desk.send(write_message(0, Bytes(512), O_DSYNC));
  desk.send(write_message(0, Bytes(512), O_SYNC));
  CHECK(desk.device->calls.fua_writes == 2);
  CHECK(desk.error_of(fuse_message(FUSE_FLUSH, kFile, fuse_body(fuse_flush_in{}))) == 0);
  CHECK(desk.error_of(fuse_message(FUSE_RELEASE, kFile, fuse_body(fuse_release_in{}))) == 0);
  CHECK(desk.device->calls.flushes == 0);
  CHECK(desk.error_of(fuse_message(FUSE_FSYNC, kFile, fuse_body(fuse_fsync_in{}))) == 0);
  CHECK(desk.device->calls.flushes == 1);
}

TEST_CASE("a punched hole is a trim, a zeroed range keeps its blocks, other allocation is not offered") {
  Desk desk;
  desk.send(write_message(0, Bytes(16384, std::byte{9})));
  CHECK(desk.error_of(fallocate_message(0, 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) == 0);
  CHECK(desk.device->calls.trims == 1);
  CHECK(desk.error_of(fallocate_message(8192, 4096, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)) == 0);
  CHECK(desk.device->calls.kept_zeroes == 1);
  CHECK(is_zero(desk.content(0, 4096).data(), 4096));
  CHECK(desk.content(4096, 4096) == Bytes(4096, std::byte{9}));
  CHECK(is_zero(desk.content(8192, 4096).data(), 4096));
  CHECK(desk.error_of(fallocate_message(0, 4096, 0)) == EOPNOTSUPP);
  CHECK(desk.error_of(fallocate_message(0, 4096, FALLOC_FL_COLLAPSE_RANGE)) == EOPNOTSUPP);
  CHECK(desk.error_of(fallocate_message(kSize, 4096, FALLOC_FL_PUNCH_HOLE)) == EINVAL);
  CHECK(desk.error_of(fallocate_message(4096, ~uint64_t{0}, FALLOC_FL_ZERO_RANGE)) == ENOSPC);
}

TEST_CASE("size, mode and owner cannot be changed; times and the present size can be set") {
  Desk desk;
  const auto error_of = [&desk](uint32_t valid, uint64_t size) {
    fuse_setattr_in in{};
    in.valid = valid;
    in.size = size;
    return desk.error_of(fuse_message(FUSE_SETATTR, kFile, fuse_body(in)));
  };
  CHECK(error_of(FATTR_SIZE, 0) == EPERM);
  CHECK(error_of(FATTR_SIZE, kSize + 512) == EPERM);
  CHECK(error_of(FATTR_SIZE, kSize) == 0);
  CHECK(error_of(FATTR_MODE, 0) == EPERM);
  CHECK(error_of(FATTR_UID, 0) == EPERM);
  CHECK(error_of(FATTR_ATIME | FATTR_MTIME | FATTR_MTIME_NOW, 0) == 0);
}

TEST_CASE("a modification is marked executed with its result before it is answered, a read never") {
  for (const bool device_marks : {true, false}) {
    Desk desk(false, device_marks);
    auto reply = desk.send(write_message(0, Bytes(512)));
    REQUIRE(reply);
    CHECK(reply->executed == 1);
    CHECK(reply->answer == 0);
    reply = desk.send(fallocate_message(0, 512, FALLOC_FL_PUNCH_HOLE));
    CHECK(reply->executed == 1);
    reply = desk.send(fallocate_message(0, 512, FALLOC_FL_ZERO_RANGE));
    CHECK(reply->executed == 1);
    CHECK(desk.send(read_message(0, 512))->executed == 0);
    CHECK(desk.send(fuse_message(FUSE_FSYNC, kFile, fuse_body(fuse_fsync_in{})))->executed == 0);
    // Run again by a successor, a failed write could overwrite what came after its error was seen.
    desk.device->set_failure(EIO);
    reply = desk.send(write_message(0, Bytes(512)));
    CHECK(reply->header.error == -EIO);
    CHECK(reply->executed == 1);
    CHECK(reply->answer == EIO);
  }
}

TEST_CASE("errors of the device reach the caller; what is no errno becomes EIO") {
  Desk desk;
  desk.device->set_failure(EREMOTEIO);
  CHECK(desk.error_of(read_message(0, 512)) == EREMOTEIO);
  CHECK(desk.error_of(fuse_message(FUSE_FSYNC, kFile, fuse_body(fuse_fsync_in{}))) == EREMOTEIO);
  desk.device->set_failure(-5);
  CHECK(desk.error_of(read_message(0, 512)) == EIO);
  desk.device->set_failure(5000);
  CHECK(desk.error_of(read_message(0, 512)) == EIO);
}

TEST_CASE("a reply that the kernel refuses is followed by an error, so that nobody waits for ever") {
  Desk desk;
  desk.sink.refuse_next = EFAULT;
  CHECK(desk.error_of(read_message(0, 512)) == EIO);
  desk.sink.refuse_next = ENOENT;  // nobody waits
  CHECK_FALSE(desk.send(read_message(0, 512)));
}

TEST_CASE("a read-only session refuses every modification before the device is asked") {
  Desk desk(true);
  CHECK(desk.error_of(write_message(0, Bytes(512))) == EROFS);
  CHECK(desk.error_of(fallocate_message(0, 512, FALLOC_FL_PUNCH_HOLE)) == EROFS);
  fuse_open_in in{};
  in.flags = O_RDWR;
  CHECK(desk.error_of(fuse_message(FUSE_OPEN, kFile, fuse_body(in))) == EROFS);
  in.flags = O_RDONLY;
  CHECK(desk.error_of(fuse_message(FUSE_OPEN, kFile, fuse_body(in))) == 0);
  CHECK(desk.device->calls.writes + desk.device->calls.trims == 0);
  const auto entry = desk.argument_of<fuse_entry_out>(fuse_message(FUSE_LOOKUP, kRoot, fuse_name("volume")));
  CHECK(entry.attr.mode == (S_IFREG | 0400));
}

TEST_CASE("I/O on the directory is refused") {
  Desk desk;
  Bytes message = write_message(0, Bytes(512, std::byte{1}));
  reinterpret_cast<fuse_in_header*>(message.data())->nodeid = kRoot;
  CHECK(desk.error_of(message) == EISDIR);
  message = read_message(0, 512);
  reinterpret_cast<fuse_in_header*>(message.data())->nodeid = kRoot;
  CHECK(desk.error_of(message) == EISDIR);
  CHECK(desk.device->calls.writes == 0);
}

TEST_CASE("requests without an answer get none, unknown ones ENOSYS, a repeated one its own number") {
  Desk desk;
  CHECK_FALSE(desk.send(fuse_message(FUSE_FORGET, kFile, fuse_body(fuse_forget_in{1}))));
  CHECK_FALSE(desk.send(fuse_message(FUSE_BATCH_FORGET, kFile, fuse_body(fuse_batch_forget_in{~0u, 0}))));
  CHECK_FALSE(desk.send(fuse_message(FUSE_INTERRUPT, 0, fuse_body(fuse_interrupt_in{7}))));
  CHECK(desk.error_of(fuse_message(FUSE_GETXATTR, kFile, Bytes(64))) == ENOSYS);
  CHECK(desk.error_of(fuse_message(9999, kFile, {})) == ENOSYS);
  CHECK(desk.error_of(fuse_message(FUSE_DESTROY, 0, {})) == 0);
  const uint64_t repeated = (uint64_t{1} << 63) | 42;  // FUSE_UNIQUE_RESEND
  const auto reply = desk.send(fuse_message(FUSE_FSYNC, kFile, fuse_body(fuse_fsync_in{}), repeated));
  REQUIRE(reply);
  CHECK(reply->header.unique == repeated);
}

TEST_CASE("the block size of the file system is the device's") {
  Desk desk;
  const auto out = desk.argument_of<fuse_statfs_out>(fuse_message(FUSE_STATFS, kRoot, {}));
  CHECK(out.st.bsize == 512);
  CHECK(out.st.blocks == kSize / 512);
}

TEST_CASE("a successor answers what was executed as it was marked, and does not run it again") {
  Desk desk;
  const Bytes before = desk.content(4096, 512);
  const Bytes message = write_message(4096, Bytes(512, std::byte{0x77}));
  const auto done = desk.finish(message, 0);
  REQUIRE(done);
  CHECK(done->header.unique == 7);
  CHECK(done->header.error == 0);
  fuse_write_out out{};
  REQUIRE(done->body.size() == sizeof out);
  std::memcpy(&out, done->body.data(), sizeof out);
  CHECK(out.size == 512);
  CHECK(desk.content(4096, 512) == before);

  const auto failed = desk.finish(message, ENOSPC);
  REQUIRE(failed);
  CHECK(failed->header.error == -ENOSPC);
  CHECK(failed->body.empty());
  const auto punched = desk.finish(fallocate_message(4096, 512, FALLOC_FL_PUNCH_HOLE), 0);
  REQUIRE(punched);
  CHECK(punched->header.error == 0);
  CHECK(punched->body.empty());
  CHECK(desk.content(4096, 512) == before);
}

TEST_CASE("a successor carries out what was read and not executed") {
  Desk desk;
  const Bytes payload(512, std::byte{0x77});
  const auto written = desk.finish(write_message(4096, payload), std::nullopt);
  REQUIRE(written);
  CHECK(written->header.error == 0);
  CHECK(desk.content(4096, 512) == payload);
  const auto read = desk.finish(read_message(4096, 512), std::nullopt);
  REQUIRE(read);
  CHECK(read->body == payload);
}

TEST_CASE("a slot with a length that cannot be is answered by nobody, and read nowhere") {
  Desk desk;
  Bytes message = write_message(0, Bytes(512));
  auto header = reinterpret_cast<fuse_in_header*>(message.data());
  header->len = 0xffff'ffff;
  CHECK_FALSE(desk.finish(message, 0));
  CHECK_FALSE(desk.finish(message, std::nullopt));
}
