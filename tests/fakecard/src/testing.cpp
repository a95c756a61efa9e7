// The tests' way in; tests/fakecard/__init__.py calls it.
#include <stdexcept>

#include "capture.h"
#include "card.h"

using namespace fakecard;

// JSON, which lives until the thread's next call
FAKECARD_API const char* fakecard_counters() {
  static thread_local std::string text;
  text = counters_as_json();
  return text.c_str();
}

FAKECARD_API void fakecard_reset() {
  abandon_captures();
  forget();
}

FAKECARD_API void fakecard_fault(const char* what, const char* detail, int skip, int times, int error) {
  add_fault(what, detail, skip, times, static_cast<Error>(error));
}

FAKECARD_API void fakecard_set(const char* name, long value) {
  const std::string which = name;
  if (which == "latency_us")
    settings().latency_us = value;
  else if (which == "peer")
    settings().peer = value != 0;
  else if (which == "memory_limit")
    settings().memory_limit = static_cast<size_t>(value);
  else
    throw std::invalid_argument("fakecard: no setting is named " + which);
}
