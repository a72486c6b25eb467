#include "os/result.h"

#include <cstring>

namespace afterimage {

Error system_error(const char* code, const std::string& what, Errno sys) {
  return Error{code, what + ": " + std::strerror(sys), sys};
}

}  // namespace afterimage
