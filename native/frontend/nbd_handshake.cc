#include "frontend/nbd_handshake.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <string_view>

#include "frontend/nbd_protocol.h"

namespace afterimage {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<std::byte>;

/// Room for a name, a list of info requests or a handful of metadata queries.
constexpr uint32_t kOptionBytesMax = 2 * nbd::kStringBytesMax;
constexpr uint32_t kPreferredBlockBytes = 4096;
constexpr uint32_t kOldReplyPadding = 124;

enum class Step { kContinue, kTransmit, kClose };

/// The data of one option, read front to back. Once something is missing, ok() is false and all values are
/// empty.
class OptionReader {
 public:
  explicit OptionReader(const Bytes& data) : rest_(data.data()), left_(data.size()) {}
  template <typename Integer>
  Integer integer() {
    const std::byte* const at = take(sizeof(Integer));
    return at == nullptr ? Integer{0} : nbd::load<Integer>(at);
  }
  std::string_view string(uint32_t length) {
    const std::byte* const at = length > nbd::kStringBytesMax ? take(left_ + 1) : take(length);
    return at == nullptr ? std::string_view() : std::string_view(reinterpret_cast<const char*>(at), length);
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && left_ == 0; }

 private:
  const std::byte* take(size_t length) {
    if (!ok_ || length > left_) {
      ok_ = false;
      return nullptr;
    }
    left_ -= length;
    return std::exchange(rest_, rest_ + length);
  }
  const std::byte* rest_;
  size_t left_;
  bool ok_ = true;
};

class OptionWriter {
 public:
  template <typename Integer>
  OptionWriter& integer(Integer value) {
    data_.resize(data_.size() + sizeof value);
    nbd::store(data_.data() + data_.size() - sizeof value, value);
    return *this;
  }
  OptionWriter& string(std::string_view value) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(value.data());
    data_.insert(data_.end(), bytes, bytes + value.size());
    return *this;
  }
  OptionWriter& zeroes(size_t count) {
    data_.resize(data_.size() + count);
    return *this;
  }
  const Bytes& data() const { return data_; }

 private:
  Bytes data_;
};

class Handshake {
 public:
  Handshake(int socket, const std::vector<NbdExport>& exports, Clock::time_point deadline)
      : socket_(socket), exports_(exports), deadline_(deadline) {}

  std::optional<NbdSession> run() {
    const uint16_t offered = nbd::kHandshakeFixedNewstyle | nbd::kHandshakeNoZeroes;
    if (!send(OptionWriter().integer(nbd::kServerMagic).integer(nbd::kOptionMagic).integer(offered)))
      return {};
    std::byte flags[4];
    if (!receive(flags, sizeof flags)) return {};
    client_flags_ = nbd::load<uint32_t>(flags);
    if ((client_flags_ & ~uint32_t{offered}) != 0) return {};
    Step step = Step::kContinue;
    while (step == Step::kContinue) step = next_option();
    if (step == Step::kClose) return {};
    // A context holds for the export it was asked for only.
    session_.allocation = session_.structured && allocation_of_ == session_.target;
    return session_;
  }

 private:
  Step next_option() {
    std::byte header[16];
    if (!receive(header, sizeof header)) return Step::kClose;
    if (nbd::load<uint64_t>(header) != nbd::kOptionMagic) return Step::kClose;
    option_ = nbd::load<uint32_t>(header + 8);
    const uint32_t length = nbd::load<uint32_t>(header + 12);
    // Without the fixed newstyle an option cannot be answered with an error.
    const bool fixed = (client_flags_ & nbd::kHandshakeFixedNewstyle) != 0;
    if (!fixed && option_ != nbd::kOptionExportName) return Step::kClose;
    if (length > kOptionBytesMax) {
      if (option_ != nbd::kOptionExportName) reply(nbd::kReplyErrorTooBig);
      return Step::kClose;
    }
    Bytes data(length);
    if (!receive(data.data(), length)) return Step::kClose;
    switch (option_) {
      case nbd::kOptionExportName:
        return export_name(data);
      case nbd::kOptionAbort:
        reply(nbd::kReplyAck);
        return Step::kClose;
      case nbd::kOptionList:
        return list(data);
      case nbd::kOptionInfo:
      case nbd::kOptionGo:
        return info(data);
      case nbd::kOptionStructuredReply:
        return structured_reply(data);
      case nbd::kOptionListMetaContext:
      case nbd::kOptionSetMetaContext:
        return meta_context(data);
      default:
        return reply(nbd::kReplyErrorUnsupported);
    }
  }

  Step export_name(const Bytes& data) {
    session_.target = find({reinterpret_cast<const char*>(data.data()), data.size()});
    if (session_.target == nullptr) return Step::kClose;  // the option knows no other way to refuse
    session_.aligned = false;
    OptionWriter answer;
    answer.integer(session_.target->device->size()).integer(transmission_flags(*session_.target));
    if ((client_flags_ & nbd::kHandshakeNoZeroes) == 0) answer.zeroes(kOldReplyPadding);
    return send(answer) ? Step::kTransmit : Step::kClose;
  }

  Step list(const Bytes& data) {
    if (!data.empty()) return reply(nbd::kReplyErrorInvalid);
    for (const NbdExport& entry : exports_) {
      OptionWriter answer;
      answer.integer(static_cast<uint32_t>(entry.name.size())).string(entry.name).string(entry.description);
      if (reply(nbd::kReplyServer, answer) == Step::kClose) return Step::kClose;
    }
    return reply(nbd::kReplyAck);
  }

  Step info(const Bytes& data) {
    OptionReader reader(data);
    const std::string_view name = reader.string(reader.integer<uint32_t>());
    std::vector<uint16_t> wanted(reader.integer<uint16_t>());
    for (uint16_t& kind : wanted) kind = reader.integer<uint16_t>();
    if (!reader.at_end()) return reply(nbd::kReplyErrorInvalid);
    const NbdExport* const target = find(name);
    if (target == nullptr) return reply(nbd::kReplyErrorUnknown);
    const auto asked = [&](uint16_t kind) {
      return std::find(wanted.begin(), wanted.end(), kind) != wanted.end();
    };

    OptionWriter facts;
    facts.integer(nbd::kInfoExport).integer(target->device->size()).integer(transmission_flags(*target));
    if (reply(nbd::kReplyInfo, facts) == Step::kClose) return Step::kClose;
    if (asked(nbd::kInfoName) &&
        reply(nbd::kReplyInfo, OptionWriter().integer(nbd::kInfoName).string(target->name)) == Step::kClose)
      return Step::kClose;
    if (asked(nbd::kInfoDescription) && !target->description.empty() &&
        reply(nbd::kReplyInfo, OptionWriter().integer(nbd::kInfoDescription).string(target->description)) ==
            Step::kClose)
      return Step::kClose;
    if (asked(nbd::kInfoBlockSize)) {
      const uint32_t smallest = target->device->block_size();
      OptionWriter sizes;
      sizes.integer(nbd::kInfoBlockSize).integer(smallest).integer(std::max(smallest, kPreferredBlockBytes));
      if (reply(nbd::kReplyInfo, sizes.integer(kNbdPayloadBytesMax)) == Step::kClose) return Step::kClose;
    }
    if (reply(nbd::kReplyAck) == Step::kClose) return Step::kClose;
    if (option_ == nbd::kOptionInfo) return Step::kContinue;
    session_.target = target;
    session_.aligned = asked(nbd::kInfoBlockSize);
    return Step::kTransmit;
  }

  Step structured_reply(const Bytes& data) {
    if (!data.empty()) return reply(nbd::kReplyErrorInvalid);
    session_.structured = true;
    return reply(nbd::kReplyAck);
  }

  Step meta_context(const Bytes& data) {
    const bool selects = option_ == nbd::kOptionSetMetaContext;
    if (selects) allocation_of_ = nullptr;  // each SET replaces the one before, also when it fails
    OptionReader reader(data);
    const std::string_view name = reader.string(reader.integer<uint32_t>());
    const uint32_t queries = reader.integer<uint32_t>();
    bool wanted = !selects && queries == 0;  // LIST without a query asks for all
    for (uint32_t i = 0; i < queries && reader.ok(); ++i) {
      const std::string_view query = reader.string(reader.integer<uint32_t>());
      wanted = wanted || query == nbd::kAllocationContext || (!selects && query == "base:");
    }
    if (!reader.at_end() || !session_.structured) return reply(nbd::kReplyErrorInvalid);
    const NbdExport* const target = find(name);
    if (target == nullptr) return reply(nbd::kReplyErrorUnknown);
    if (wanted) {
      if (selects) allocation_of_ = target;
      OptionWriter context;
      context.integer(nbd::kAllocationContextId).string(nbd::kAllocationContext);
      if (reply(nbd::kReplyMetaContext, context) == Step::kClose) return Step::kClose;
    }
    return reply(nbd::kReplyAck);
  }

  uint16_t transmission_flags(const NbdExport& target) const {
    uint16_t flags = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kCanMultiConnection;
    if (target.read_only || target.device->read_only())
      flags |= nbd::kReadOnly;
    else
      flags |= nbd::kSendTrim | nbd::kSendWriteZeroes | nbd::kSendFastZero;
    if (session_.structured) flags |= nbd::kSendDontFragment;
    return flags;
  }

  const NbdExport* find(std::string_view name) const {
    for (const NbdExport& entry : exports_)
      if (entry.name == name) return &entry;
    return nullptr;
  }

  Step reply(uint32_t type, const OptionWriter& payload = {}) {
    OptionWriter message;
    message.integer(nbd::kOptionReplyMagic).integer(option_).integer(type);
    message.integer(static_cast<uint32_t>(payload.data().size()));
    message.string({reinterpret_cast<const char*>(payload.data().data()), payload.data().size()});
    return send(message) ? Step::kContinue : Step::kClose;
  }

  bool send(const OptionWriter& message) {
    const Bytes& data = message.data();
    return transfer(data.size(), POLLOUT, [&](size_t done) {
      return ::send(socket_, data.data() + done, data.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    });
  }

  bool receive(std::byte* into, size_t length) {
    return transfer(length, POLLIN,
                    [&](size_t done) { return ::recv(socket_, into + done, length - done, MSG_DONTWAIT); });
  }

  /// A client that dribbles bytes gets no more time than one that is silent: the deadline is for the whole
  /// handshake.
  template <typename Call>
  bool transfer(size_t length, short event, Call call) {
    for (size_t done = 0; done < length;) {
      if (Clock::now() >= deadline_) return false;
      const ssize_t count = call(done);
      if (count > 0) {
        done += static_cast<size_t>(count);
      } else if (count == 0) {
        return false;
      } else if (errno == EAGAIN) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now());
        pollfd waiting{socket_, event, 0};
        ::poll(&waiting, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

  const int socket_;
  const std::vector<NbdExport>& exports_;
  const Clock::time_point deadline_;
  uint32_t client_flags_ = 0;
  uint32_t option_ = 0;  // the one being answered
  const NbdExport* allocation_of_ = nullptr;
  NbdSession session_{nullptr};
};

}  // namespace

std::optional<NbdSession> negotiate_nbd(int socket, const std::vector<NbdExport>& exports,
                                        Clock::time_point deadline) {
  return Handshake(socket, exports, deadline).run();
}

}  // namespace afterimage
