#include "os/sealed_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace afterimage {

Result<Fd> make_sealed_memory(const std::string& name, std::span<const std::byte> bytes) {
  const auto failed = [&name](const char* what) {
    return system_error("MEMORY_UNAVAILABLE", what + (" of " + name), errno);
  };
  Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return failed("memfd_create");
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return failed("write");
    if (written > 0) bytes = bytes.subspan(static_cast<size_t>(written));
  }
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return failed("seals");
  return fd;
}

}  // namespace afterimage
