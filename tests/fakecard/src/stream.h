// Streams, events, and the capture of streams into graphs.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core.h"

namespace fakecard {

using Clock = std::chrono::steady_clock;

enum class Kind { kKernel = 0, kMemcpy = 1, kMemset = 2, kHost = 3, kGraph = 4, kEmpty = 5 };  // numbers of cudaGraphNodeType
// What a stream does next. `run` gives the error that the operation leaves on the device
struct Work {
  Kind kind = Kind::kEmpty;
  std::string label;
  std::function<Error()> run;
};

struct Node {
  Work work;
  std::vector<Node*> after;
};
struct Graph {
  std::vector<std::unique_ptr<Node>> nodes;  // in the order of recording, which is a topological one
};
struct Capture;

// A point in a stream's order: done when all before it is
struct Mark {
  std::atomic<bool> done{false};
  Clock::time_point when;
};
using MarkPtr = std::shared_ptr<Mark>;

struct Operation {
  std::function<Error()> run;
  std::vector<MarkPtr> after;  // in other streams
  Clock::time_point not_before;
  MarkPtr mark;
};
struct Stream {
  int device;
  unsigned flags;
  int priority;
  uint64_t id;
  bool legacy = false;          // the default stream, which waits for blocking streams and they for it
  std::deque<Operation> queue;  // empty unless settings().latency_us is set
  MarkPtr last;                 // of what was submitted; null or done: idle
  bool has_worker = false, destroyed = false;
  std::shared_ptr<Capture> capture;
  std::vector<Node*> tail;  // what the next captured operation comes after
};
using StreamPtr = std::shared_ptr<Stream>;

struct Event {
  unsigned flags;
  MarkPtr mark;  // null: never recorded
  std::shared_ptr<Capture> capture;
  std::vector<Node*> tail;
};
using EventPtr = std::shared_ptr<Event>;

constexpr unsigned kNonBlocking = 1, kDisableTiming = 2;

Error create_stream(unsigned flags, int priority, void** handle);
Error destroy_stream(void* handle);
Error find_stream(void* handle, StreamPtr* stream);  // null and 1: the current device's default stream
Error create_event(unsigned flags, void** handle);
Error destroy_event(void* handle);
Error find_event(void* handle, EventPtr* event);

// Runs `work` at its turn, or records it where the stream is captured. `wait`: returns when it has run
Error submit(const StreamPtr& stream, Work work, bool wait = false);
bool capturing(const StreamPtr& stream);
Error wait_for_stream(const StreamPtr& stream);
Error wait_for_device(int device);
Error query_stream(const StreamPtr& stream);
Error record_event(const EventPtr& event, const StreamPtr& stream);
Error wait_for_event(const EventPtr& event);
Error query_event(const EventPtr& event);
Error elapsed_ms(const EventPtr& start, const EventPtr& end, float* ms);
Error make_stream_wait(const StreamPtr& stream, const EventPtr& event);

}  // namespace fakecard
