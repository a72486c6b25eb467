// The directory with its one file: names, attributes, opening. Nothing here touches the device's content.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "frontend/fuse_exchange.h"

namespace afterimage {
namespace {

constexpr uint64_t kValidSeconds = 3600;  // nothing about names and attributes ever changes
constexpr uint32_t kNameBytesMax = 255;
constexpr uint32_t kFileBlockBytes = 512;  // the unit of st_blocks

}  // namespace

bool FuseSession::describe(uint64_t node, fuse_attr* attributes) const {
  if (node != FUSE_ROOT_ID && node != kFuseFileNode) return false;
  const bool is_root = node == FUSE_ROOT_ID;
  *attributes = {};
  attributes->ino = node;
  attributes->size = is_root ? 0 : device_->size();
  attributes->blocks = attributes->size / kFileBlockBytes;
  attributes->atime = attributes->mtime = attributes->ctime = started_s_;
  attributes->mode = is_root ? S_IFDIR | 0700 : S_IFREG | (read_only_ ? 0400 : 0600);
  attributes->nlink = is_root ? 2 : 1;
  return true;
}

void FuseSession::lookup(Exchange& exchange) const {
  const auto name = exchange.request.name();
  if (!name) return exchange.reply_status(EINVAL);
  if (exchange.node() != FUSE_ROOT_ID || *name != file_name_) return exchange.reply_status(ENOENT);
  fuse_entry_out entry{};
  entry.nodeid = kFuseFileNode;
  entry.entry_valid = entry.attr_valid = kValidSeconds;
  describe(kFuseFileNode, &entry.attr);
  exchange.reply_argument(entry);
}

void FuseSession::get_attributes(Exchange& exchange) const {
  fuse_attr_out answer{};
  answer.attr_valid = kValidSeconds;
  if (!describe(exchange.node(), &answer.attr)) return exchange.reply_status(ENOENT);
  exchange.reply_argument(answer);
}

void FuseSession::set_attributes(Exchange& exchange) const {
  const auto wish = exchange.request.argument<fuse_setattr_in>();
  if (!wish) return exchange.reply_status(EINVAL);
  fuse_attr_out answer{};
  answer.attr_valid = kValidSeconds;
  if (!describe(exchange.node(), &answer.attr)) return exchange.reply_status(ENOENT);
  // The kernel sets the size to what it already is after a failed write beyond the end. Times are taken and
  // forgotten.
  const bool changes_size = (wish->valid & FATTR_SIZE) != 0 && wish->size != answer.attr.size;
  const bool changes_owner = (wish->valid & (FATTR_MODE | FATTR_UID | FATTR_GID)) != 0;
  if (changes_size || changes_owner) return exchange.reply_status(EPERM);
  exchange.reply_argument(answer);
}

void FuseSession::open(Exchange& exchange) const {
  const auto wish = exchange.request.argument<fuse_open_in>();
  if (!wish) return exchange.reply_status(EINVAL);
  if (exchange.node() != kFuseFileNode) return exchange.reply_status(ENOENT);
  if (read_only_ && (wish->flags & O_ACCMODE) != O_RDONLY) return exchange.reply_status(EROFS);
  fuse_open_out answer{};
  answer.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
  exchange.reply_argument(answer);
}

void FuseSession::open_directory(Exchange& exchange) const {
  if (exchange.node() != FUSE_ROOT_ID) return exchange.reply_status(ENOTDIR);
  exchange.reply_argument(fuse_open_out{});
}

void FuseSession::read_directory(Exchange& exchange) const {
  const auto wish = exchange.request.argument<fuse_read_in>();
  if (!wish) return exchange.reply_status(EINVAL);
  if (exchange.node() != FUSE_ROOT_ID) return exchange.reply_status(ENOTDIR);
  struct Entry {
    uint64_t node;
    std::string_view name;
    uint32_t mode;
  };
  const std::array<Entry, 3> entries{
      {{FUSE_ROOT_ID, ".", S_IFDIR}, {FUSE_ROOT_ID, "..", S_IFDIR}, {kFuseFileNode, file_name_, S_IFREG}}};
  const size_t room = std::min<size_t>(wish->size, exchange.read_buffer.size());
  size_t used = 0;
  for (uint64_t i = wish->offset; i < entries.size(); ++i) {
    constexpr uint32_t kModeToType = 12;  // S_IFxxx to DT_xxx
    const fuse_dirent entry{entries[i].node, i + 1, static_cast<uint32_t>(entries[i].name.size()),
                            entries[i].mode >> kModeToType};
    const size_t bytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entries[i].name.size());
    if (bytes > room - used) break;
    std::byte* const into = exchange.read_buffer.data() + used;
    std::memset(into, 0, bytes);
    std::memcpy(into, &entry, FUSE_NAME_OFFSET);
    std::memcpy(into + FUSE_NAME_OFFSET, entries[i].name.data(), entries[i].name.size());
    used += bytes;
  }
  exchange.reply_data(exchange.read_buffer.first(used));
}

void FuseSession::file_system_size(Exchange& exchange) const {
  fuse_statfs_out answer{};
  // loop takes the block size for its discard granularity.
  answer.st.bsize = answer.st.frsize = device_->block_size();
  answer.st.blocks = device_->size() / device_->block_size();
  answer.st.files = 1;
  answer.st.namelen = kNameBytesMax;
  exchange.reply_argument(answer);
}

}  // namespace afterimage
