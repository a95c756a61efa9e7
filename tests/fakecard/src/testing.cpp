// The tests' way in; tests/fakecard/__init__.py calls it.
#include <stdexcept>

#include "capture.h"
#include "card.h"
#include "image.h"

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
  else if (which == "bus_mb_per_s")
    settings().bus_mb_per_s = value;
  else if (which == "peer")
    settings().peer = value != 0;
  else if (which == "memory_limit")
    settings().memory_limit = static_cast<size_t>(value);
  else
    throw std::invalid_argument("fakecard: no setting is named " + which);
}

// "sm_75 compute_90", or "error: " and why
FAKECARD_API const char* fakecard_images(const void* fatbin, size_t bytes) {
  static thread_local std::string text;
  std::vector<Image> images;
  std::string why;
  text = parse_fatbin(fatbin, bytes, &images, &why) ? list(images) : "error: " + why;
  return text.c_str();
}

// The one that a card of this capability runs, or nothing
FAKECARD_API const char* fakecard_chosen(const void* fatbin, size_t bytes, int major, int minor) {
  static thread_local std::string text;
  std::vector<Image> images;
  Card card;
  card.major = major;
  card.minor = minor;
  const Image* image = parse_fatbin(fatbin, bytes, &images, &text) ? choose(images, card) : nullptr;
  text = image ? list({*image}) : "";
  return text.c_str();
}
