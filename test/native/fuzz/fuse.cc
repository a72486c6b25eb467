// Structured-random requests against FuseSession: `fuzz-fuse [--seed N] [--seconds S]`. Most requests are
// nearly right, so that they get past the first check; lengths, names, offsets and sizes lie. Meant to run
// under AddressSanitizer: each request lies in a buffer of exactly its length. The oracle is a plain array
// that the accepted requests are applied to.
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "frontend/fuse_session.h"
#include "fuse_message.h"
#include "fuzz/fuzz_run.h"
#include "scratch_device.h"

using namespace afterimage;
using namespace afterimage::test;

namespace {

constexpr uint64_t kSize = 64u << 10;
constexpr uint64_t kFile = FUSE_ROOT_ID + 1;

class Fuzzer {
 public:
  explicit Fuzzer(uint64_t seed) : random_(seed) {}

  /// False, with the reason printed, when the session broke a promise.
  bool step() {
    const uint32_t opcode = pick_opcode();
    Bytes message = fuse_message(opcode, pick_node(), pick_body(opcode), random_());
    if (one_in(4)) distort(&message);
    return deliver(message);
  }
  /// The device holds what the accepted requests left in the model.
  bool check_content() {
    Bytes found(kSize);
    if (device_->read(0, kSize, found.data()) != 0 || found != model_)
      return complain("device and model differ");
    return true;
  }
  struct Accepted {
    uint64_t writes = 0, bytes_written = 0, holes = 0, reads = 0, names = 0;
  };
  uint64_t requests() const { return requests_; }
  uint64_t refused() const { return refused_; }
  const Accepted& accepted() const { return accepted_; }

 private:
  bool one_in(uint32_t n) { return random_() % n == 0; }
  bool complain(const char* what) {
    std::printf("fuzz fuse: request %llu: %s\n", static_cast<unsigned long long>(requests_), what);
    return false;
  }

  uint32_t pick_opcode() {
    constexpr uint32_t kFavourites[] = {FUSE_READ,   FUSE_WRITE,   FUSE_FALLOCATE, FUSE_FSYNC,
                                        FUSE_LOOKUP, FUSE_READDIR, FUSE_SETATTR,   FUSE_INIT};
    return one_in(4) ? static_cast<uint32_t>(random_() % 64)
                     : kFavourites[random_() % std::size(kFavourites)];
  }
  uint64_t pick_node() {
    if (one_in(16)) return random_();
    return one_in(8) ? FUSE_ROOT_ID : kFile;
  }
  /// Mostly inside the device or around its end, at times anywhere.
  uint64_t pick_offset() {
    if (one_in(16)) return random_();
    if (one_in(8)) return ~uint64_t{0} - random_() % 8192;
    return random_() % (kSize + kSize / 8);
  }
  uint32_t pick_length() {
    if (one_in(16)) return static_cast<uint32_t>(random_());
    return static_cast<uint32_t>(random_() % (one_in(8) ? 2 * kSize : 4096));
  }
  Bytes pick_bytes(size_t bytes) {
    Bytes content(bytes);
    const auto filler = static_cast<std::byte>(random_());
    std::fill(content.begin(), content.end(), filler);
    for (size_t i = 0; i < std::min<size_t>(bytes, 16); ++i) content[i] = static_cast<std::byte>(random_());
    return content;
  }

  Bytes pick_body(uint32_t opcode) {
    switch (opcode) {
      case FUSE_WRITE: {
        const Bytes payload = pick_bytes(std::min<uint32_t>(pick_length(), 2 * kSize));
        fuse_write_in in{};
        in.offset = pick_offset();
        in.size = one_in(8) ? pick_length() : static_cast<uint32_t>(payload.size());
        in.flags = static_cast<uint32_t>(random_());
        return fuse_body(in, payload);
      }
      case FUSE_READ:
      case FUSE_READDIR: {
        fuse_read_in in{};
        in.offset = opcode == FUSE_READDIR && !one_in(4) ? random_() % 5 : pick_offset();
        in.size = pick_length();
        return fuse_body(in);
      }
      case FUSE_FALLOCATE: {
        fuse_fallocate_in in{};
        in.offset = pick_offset();
        in.length = one_in(8) ? random_() : pick_length();
        constexpr int kModes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, 0, -1};
        in.mode = static_cast<uint32_t>(kModes[random_() % std::size(kModes)]);
        return fuse_body(in);
      }
      case FUSE_LOOKUP:
        return one_in(2) ? fuse_name("volume") : pick_bytes(random_() % 300);
      case FUSE_INIT: {
        fuse_init_in in{};
        in.major = one_in(8) ? static_cast<uint32_t>(random_()) : FUSE_KERNEL_VERSION;
        in.minor = one_in(8) ? static_cast<uint32_t>(random_()) : 31 + static_cast<uint32_t>(random_() % 20);
        in.flags = static_cast<uint32_t>(random_());
        return fuse_body(in);
      }
      default:
        return pick_bytes(random_() % 200);
    }
  }

  void distort(Bytes* message) {
    switch (random_() % 4) {
      case 0:
        message->resize(random_() % (message->size() + 1));
        return;
      case 1:
        message->resize(message->size() + random_() % 64);
        return;
      case 2:  // cut, with a header that agrees
        message->resize(sizeof(fuse_in_header) + random_() % (message->size() - sizeof(fuse_in_header) + 1));
        reinterpret_cast<fuse_in_header*>(message->data())->len = static_cast<uint32_t>(message->size());
        return;
      default:
        for (uint64_t i = random_() % 4; i < 5; ++i) {
          const size_t reach = std::min<size_t>(message->size(), kFusePayloadOffset);
          (*message)[random_() % reach] ^= static_cast<std::byte>(1u << (random_() % 8));
        }
    }
  }

  bool deliver(const Bytes& message) {
    ++requests_;
    executed_ = 0;
    answer_ = 0;
    const std::unique_ptr<std::byte[]> exact(new std::byte[message.size()]);
    std::copy(message.begin(), message.end(), exact.get());
    const RequestSlots::Slot slot{&executed_, exact.get(), static_cast<uint32_t>(message.size()), &answer_};
    CollectingSink sink(slot);
    session_.serve(slot, message.size(), read_buffer_, sink);

    const auto request = FuseRequest::parse(message);
    const size_t expected = request && request->expects_reply() ? 1 : 0;
    if (sink.replies.size() != expected)
      return complain("not exactly the replies that the protocol asks for");
    if (expected == 0) return true;
    const auto& reply = sink.replies[0];
    if (reply.header.len != sizeof reply.header + reply.body.size())
      return complain("reply of a wrong length");
    if (reply.header.unique != request->header().unique) return complain("reply to another request");
    if (reply.header.error > 0 || reply.header.error <= -512)
      return complain("no error that the kernel takes");
    if (reply.header.error != 0 && !reply.body.empty()) return complain("an error with a body");
    return apply(*request, reply);
  }

  bool apply(const FuseRequest& request, const CollectingSink::Reply& reply) {
    if (reply.header.error != 0) {
      ++refused_;
      return true;
    }
    const uint32_t opcode = request.header().opcode;
    const bool modifies = opcode == FUSE_WRITE || opcode == FUSE_FALLOCATE;
    if (modifies != (reply.executed != 0)) return complain("the executed mark is wrong");
    if (opcode == FUSE_WRITE) {
      const auto in = *request.argument<fuse_write_in>();
      const auto payload = request.payload(sizeof in);
      if (check_range(kSize, in.offset, payload.size(), ENOSPC) != 0)
        return complain("a write outside was accepted");
      std::copy(payload.begin(), payload.end(), model_.begin() + static_cast<ptrdiff_t>(in.offset));
      ++accepted_.writes;
      accepted_.bytes_written += payload.size();
    } else if (opcode == FUSE_FALLOCATE) {
      const auto in = *request.argument<fuse_fallocate_in>();
      if (check_range(kSize, in.offset, in.length, EINVAL) != 0)
        return complain("a hole outside was accepted");
      std::fill_n(model_.begin() + static_cast<ptrdiff_t>(in.offset), in.length, std::byte{0});
      ++accepted_.holes;
    } else if (opcode == FUSE_READ) {
      const auto in = *request.argument<fuse_read_in>();
      const uint64_t start = std::min(in.offset, kSize);
      const uint64_t length = std::min<uint64_t>(in.size, kSize - start);
      if (reply.body.size() != length) return complain("a read of a wrong length");
      if (!std::equal(reply.body.begin(), reply.body.end(), model_.begin() + static_cast<ptrdiff_t>(start)))
        return complain("a read of wrong bytes");
      if (length > 0) ++accepted_.reads;
    } else if (opcode == FUSE_LOOKUP || opcode == FUSE_READDIR) {
      ++accepted_.names;
    }
    return true;
  }

  std::mt19937_64 random_;
  std::shared_ptr<ScratchDevice> device_ = std::make_shared<ScratchDevice>(kSize);
  FuseSession session_{device_, "volume", false};
  Bytes model_ = Bytes(kSize);
  Bytes read_buffer_ = Bytes(2 * kSize);
  std::atomic<uint32_t> executed_{0};
  std::atomic<int32_t> answer_{0};
  uint64_t requests_ = 0;
  uint64_t refused_ = 0;
  Accepted accepted_;
};

}  // namespace

int main(int argc, char** argv) {
  FuzzRun run("fuse", argc, argv);
  Fuzzer fuzzer(run.seed());
  bool holds = true;
  while (holds && !run.is_over()) {
    constexpr int kBurst = 256;
    for (int i = 0; i < kBurst && holds; ++i) holds = fuzzer.step();
    holds = holds && fuzzer.check_content();
  }
  const uint64_t requests = fuzzer.requests();
  const Fuzzer::Accepted& accepted = fuzzer.accepted();
  std::printf("fuzz fuse: %llu requests, %s\n", static_cast<unsigned long long>(requests),
              holds ? "no finding" : "FAILED");
  if (!holds) return 1;
  run.expect("writes accepted", accepted.writes, requests, 100);
  run.expect("bytes written", accepted.bytes_written, requests, 1);
  run.expect("holes accepted", accepted.holes, requests, 100);
  run.expect("reads that were not empty", accepted.reads, requests, 100);
  run.expect("look-ups and listings answered", accepted.names, requests, 100);
  run.expect("requests refused with an error", fuzzer.refused(), requests, 20);
  return run.exit_status();
}
