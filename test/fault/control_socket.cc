#include "control_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

namespace afterimage::fault {
namespace {

std::string answer(const std::string& line, OperationLog* log, FaultRules* rules) {
  std::istringstream text(line);
  std::string verb;
  text >> verb;
  if (verb == "add") {
    std::string reason;
    const auto id = rules->add(line.substr(verb.size()), &reason);
    return id ? "ok " + std::to_string(*id) : "error " + reason;
  }
  if (verb == "clear") {
    uint64_t id = 0;
    text >> id;
    rules->clear(id);
    return "ok";
  }
  if (verb == "report") return rules->report() + "ok";
  if (verb == "moment") return "ok " + std::to_string(log->moment());
  if (verb == "flush") {
    log->flush();
    return "ok";
  }
  return "error unknown verb: " + verb;
}

}  // namespace

int listen_on(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  std::strcpy(address.sun_path, path);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || ::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return -1;
  return ::listen(listener, 8) == 0 ? listener : -1;
}

void serve_control(int listener, OperationLog* log, FaultRules* rules) {
  for (;;) {
    const int client = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    FILE* stream = ::fdopen(client, "r+");
    if (stream == nullptr) {
      ::close(client);
      continue;
    }
    char* line = nullptr;
    size_t capacity = 0;
    for (ssize_t n; (n = ::getline(&line, &capacity, stream)) > 0;) {
      if (line[n - 1] == '\n') line[n - 1] = '\0';
      const std::string text = answer(line, log, rules) + "\n";
      if (::send(client, text.data(), text.size(), MSG_NOSIGNAL) < 0) break;
    }
    ::free(line);
    ::fclose(stream);
  }
}

}  // namespace afterimage::fault
