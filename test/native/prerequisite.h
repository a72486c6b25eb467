// What a test case needs of the machine. Where it is missing the case is left out and says so, and the runner
// counts it as skipped; where AFTERIMAGE_TEST_REQUIRE_ALL is set, as the runner does for root, it fails:
// nobody shall think that it passed.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>

/// `needs` is a string that follows "needs".
#define NEEDS(is_there, needs)                                                                   \
  if (!(is_there)) {                                                                             \
    if (std::getenv("AFTERIMAGE_TEST_REQUIRE_ALL") != nullptr) FAIL("not run: needs " << needs); \
    MESSAGE("not run: needs " << needs);                                                         \
    return;                                                                                      \
  }
