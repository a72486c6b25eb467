#include "supervisor/descriptor_keeper.h"

#include <string>
#include <utility>

namespace afterimage {

std::string_view DescriptorKeeper::take(std::string_view message, std::vector<Fd> descriptors) {
  bool stores = false;
  bool removes = false;
  std::string name = "stored";  // as systemd names what has no name
  while (!message.empty()) {
    const std::string_view line = message.substr(0, message.find('\n'));
    message.remove_prefix(std::min(line.size() + 1, message.size()));
    if (line == "FDSTORE=1") stores = true;
    if (line == "FDSTOREREMOVE=1") removes = true;
    if (line == "READY=1") is_ready_ = true;
    constexpr std::string_view kName = "FDNAME=";
    if (line.substr(0, kName.size()) == kName) name = line.substr(kName.size());
  }
  if (!stores && !removes) return {};
  if (!is_descriptor_name(name)) return "a descriptor's name is none";
  if (removes) std::erase_if(kept_, [&name](const StoredDescriptor& one) { return one.name == name; });
  if (!stores) return {};
  for (Fd& descriptor : descriptors) {
    if (kept_.size() == kKeptDescriptorsMax) return "more descriptors than are kept";
    kept_.push_back({name, std::move(descriptor)});
  }
  return {};
}

}  // namespace afterimage
