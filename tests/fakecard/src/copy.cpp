// Copies and fills: checked against the allocations when they are submitted, done at their turn, counted when done.
#include "copy.h"

#include <chrono>
#include <cstring>

#include "capture.h"
#include "card.h"
#include "memory.h"

namespace fakecard {
namespace {

size_t extent(const Box& box, const Strides& strides) {
  return (box.depth - 1) * strides.slice + (box.height - 1) * strides.pitch + box.width;
}

bool empty(const Box& box) { return !box.width || !box.height || !box.depth; }

Direction direction_of(const Span& to, const Span& from) {
  const bool to_card = to.place == Place::kDevice, from_card = from.place == Place::kDevice;
  if (to_card) return from_card ? Direction::kD2d : Direction::kH2d;
  return from_card ? Direction::kD2h : Direction::kH2h;
}

struct Route {
  const char* name;
  Count copies, bytes;
};
Route route_of(const Span& to, const Span& from) {
  switch (direction_of(to, from)) {
    case Direction::kH2d:
      return {"h2d", kH2d, kH2dBytes};
    case Direction::kD2h:
      return {"d2h", kD2h, kD2hBytes};
    case Direction::kH2h:
      return {"h2h", kH2h, kH2hBytes};
    default:
      return to.device == from.device ? Route{"d2d", kD2d, kD2dBytes} : Route{"p2p", kP2p, kP2pBytes};
  }
}

void move_rows(const Transfer& t) {
  char* to = alias(t.to);
  const char* from = alias(t.from);
  for (size_t layer = 0; layer < t.box.depth; ++layer)
    for (size_t row = 0; row < t.box.height; ++row)
      memmove(to + layer * t.to_strides.slice + row * t.to_strides.pitch,
              from + layer * t.from_strides.slice + row * t.from_strides.pitch, t.box.width);
}

// Until a bus that started at `start` would be through with so many bytes
void wait_for_bus(Clock::time_point start, size_t bytes) {
  const long mb_per_s = settings().bus_mb_per_s;
  if (!mb_per_s) return;
  const auto end = start + std::chrono::nanoseconds(bytes * 1000 / static_cast<size_t>(mb_per_s));
  while (Clock::now() < end) {
  }
}

// The bytes of the source as they are now, in rows without gaps
std::shared_ptr<std::vector<char>> staged(Transfer* t) {
  auto bytes = std::make_shared<std::vector<char>>(t->box.width * t->box.height * t->box.depth);
  Transfer down = *t;
  down.to = bytes->data();
  down.to_strides = {t->box.width, t->box.width * t->box.height};
  move_rows(down);
  t->from = bytes->data();
  t->from_strides = down.to_strides;
  return bytes;
}

}  // namespace

Error copy(const Transfer& asked, Direction direction, const StreamPtr& stream, bool asynchronous) {
  if (empty(asked.box)) return kSuccess;
  if (!asked.to || !asked.from) return kInvalidValue;
  if (asked.box.height > 1 && (asked.to_strides.pitch < asked.box.width || asked.from_strides.pitch < asked.box.width))
    return kInvalidValue;
  Span to, from;
  if (locate(asked.to, extent(asked.box, asked.to_strides), &to) ||
      locate(asked.from, extent(asked.box, asked.from_strides), &from))
    return kInvalidValue;
  if (direction != Direction::kDefault && direction != direction_of(to, from)) return kInvalidValue;
  const Route route = route_of(to, from);
  if (!asynchronous)
    if (const Error error = refuse_unsafe()) return error;
  if (const Error wanted = fault("copy", route.name)) {
    poison(stream->device, wanted);
    return wanted;
  }
  Transfer t = asked;
  std::shared_ptr<std::vector<char>> keep;
  const bool recorded = capturing(stream);
  const bool read_in_place = cards()[static_cast<size_t>(stream->device)].integrated;  // by the host's page tables
  if (from.place == Place::kHost && asynchronous && !recorded && settings().latency_us && !read_in_place) keep = staged(&t);
  const bool wait = !recorded && (!asynchronous || to.place == Place::kHost) && route.copies != kD2d;
  return submit(stream,
                {Kind::kMemcpy, route.name,
                 [t, keep, route] {
                   const size_t bytes = t.box.width * t.box.height * t.box.depth;
                   const auto start = Clock::now();
                   move_rows(t);
                   if (route.copies == kH2d || route.copies == kD2h) wait_for_bus(start, bytes);
                   count(route.copies);
                   count(route.bytes, bytes);
                   return kSuccess;
                 }},
                wait);
}

Error fill(const Fill& asked, const StreamPtr& stream, bool asynchronous) {
  if (empty(asked.box)) return kSuccess;
  Span span;
  if (!asked.to || locate(asked.to, extent(asked.box, asked.strides), &span) || span.place == Place::kHost) return kInvalidValue;
  if (reinterpret_cast<uintptr_t>(asked.to) % asked.element_bytes || asked.box.width % asked.element_bytes) return kInvalidValue;
  if (const Error wanted = fault("memset")) {
    poison(stream->device, wanted);
    return wanted;
  }
  if (!asynchronous)
    if (const Error error = refuse_unsafe()) return error;
  return submit(stream, {Kind::kMemset, "memset", [asked] {
                           char* to = alias(asked.to);
                           for (size_t layer = 0; layer < asked.box.depth; ++layer)
                             for (size_t row = 0; row < asked.box.height; ++row)
                               for (size_t at = 0; at < asked.box.width; at += asked.element_bytes)
                                 memcpy(to + layer * asked.strides.slice + row * asked.strides.pitch + at, &asked.value,
                                        asked.element_bytes);
                           count(kMemset);
                           count(kMemsetBytes, asked.box.width * asked.box.height * asked.box.depth);
                           return kSuccess;
                         }});
}

}  // namespace fakecard
