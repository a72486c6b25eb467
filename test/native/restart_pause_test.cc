#include "supervisor/restart_pause.h"

#include <doctest/doctest.h>

using afterimage::RestartPause;
using std::chrono::milliseconds;

TEST_CASE("restart pause: who lived for long or was ready is followed at once, who dies young ever later") {
  RestartPause pause;
  const milliseconds young(10);
  CHECK(pause.after(young, false) == milliseconds(0));  // the first time it may have been anything
  CHECK(pause.after(young, false) == milliseconds(90));
  CHECK(pause.after(young, false) == milliseconds(190));
  CHECK(pause.after(milliseconds(500), false) == milliseconds(0));  // longer than the starts are to be apart
  CHECK(pause.after(young, false) == milliseconds(790));
  for (int life = 0; life < 5; ++life) CHECK(pause.after(young, false) <= RestartPause::kMax);
  CHECK(pause.after(young, false) == milliseconds(990));

  CHECK(pause.after(RestartPause::kMax, false) == milliseconds(0));
  CHECK(pause.after(young, false) == milliseconds(0));
  CHECK(pause.after(young, false) == milliseconds(90));
  CHECK(pause.after(young, true) == milliseconds(0));
  CHECK(pause.after(young, false) == milliseconds(0));
}
