#include "fault_rules.h"

#include <fnmatch.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <sstream>
#include <utility>

namespace afterimage::fault {
namespace {

constexpr std::array<std::string_view, 13> kOperations = {"any",    "read", "write",  "truncate", "fallocate",
                                                          "create", "open", "rename", "unlink",   "link",
                                                          "mkdir",  "sync", "syncdir"};

constexpr std::array<std::pair<std::string_view, int>, 5> kErrors = {
    {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EMFILE", EMFILE}}};

bool parse_number(std::string_view text, uint64_t* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc{} && end == text.data() + text.size();
}

bool set_effect(Rule* rule, std::string_view value) {
  if (value == "fail")
    rule->effect = Effect::kFail;
  else if (value == "short")
    rule->effect = Effect::kShort;
  else if (value == "torn")
    rule->effect = Effect::kTorn;
  else if (value == "delay")
    rule->effect = Effect::kDelay;
  else
    return false;
  return true;
}

bool set_error(Rule* rule, std::string_view value) {
  for (const auto& [name, number] : kErrors)
    if (name == value) rule->error = number;
  return rule->error != 0;
}

bool set(Rule* rule, std::string_view key, std::string_view value) {
  if (key == "op") {
    rule->operation = value;
    for (const std::string_view known : kOperations)
      if (known == value) return true;
    return false;
  }
  if (key == "path") {
    rule->path = value;
    return true;
  }
  if (key == "do") return set_effect(rule, value);
  if (key == "errno") return set_error(rule, value);
  if (key == "bytes") return parse_number(value, &rule->bytes);
  if (key == "us") return parse_number(value, &rule->microseconds);
  if (key == "after") return parse_number(value, &rule->after);
  if (key == "times") return parse_number(value, &rule->times);
  return false;
}

}  // namespace

std::optional<uint64_t> FaultRules::add(std::string_view words, std::string* reason) {
  Rule rule;
  std::istringstream text{std::string(words)};
  for (std::string word; text >> word;) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos ||
        !set(&rule, std::string_view(word).substr(0, equals), std::string_view(word).substr(equals + 1))) {
      *reason = "not understood: " + word;
      return std::nullopt;
    }
  }
  if (rule.operation.empty() || rule.path.empty()) {
    *reason = "op= and path= are needed";
    return std::nullopt;
  }
  if (rule.error == 0) rule.error = EIO;
  const std::lock_guard lock(mutex_);
  rule.id = ++last_id_;
  rules_.push_back(rule);
  return rule.id;
}

void FaultRules::clear(uint64_t id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(rules_, [id](const Rule& rule) { return id == 0 || rule.id == id; });
}

std::string FaultRules::report() {
  const std::lock_guard lock(mutex_);
  std::ostringstream text;
  for (const Rule& rule : rules_) text << rule.id << ' ' << rule.seen << ' ' << rule.struck << '\n';
  return text.str();
}

std::optional<Rule> FaultRules::strike(std::string_view operation, const std::string& path,
                                       uint64_t* microseconds) {
  const std::lock_guard lock(mutex_);
  for (Rule& rule : rules_) {
    if (rule.operation != "any" && rule.operation != operation) continue;
    if (::fnmatch(rule.path.c_str(), path.c_str(), 0) != 0) continue;
    ++rule.seen;
    if (rule.seen <= rule.after || (rule.times != 0 && rule.struck >= rule.times)) continue;
    ++rule.struck;
    if (rule.effect != Effect::kDelay) return rule;
    *microseconds += rule.microseconds;
  }
  return std::nullopt;
}

}  // namespace afterimage::fault
