// Streams and events. With no latency set an operation runs inside the call that submits it; else a thread of the stream runs
// it later, so that a program that does not wait reads old data.
#include "stream.h"

#include <unordered_map>

#include "capture.h"
#include "card.h"

namespace fakecard {
namespace {

// One lock and one condition for all streams and events: the rules between them stay easy to see
struct Streams {
  std::mutex lock;
  std::condition_variable changed;
  std::unordered_map<void*, StreamPtr> streams;
  std::unordered_map<void*, EventPtr> events;
  std::unordered_map<int, StreamPtr> legacy;  // by device
  uint64_t next_id = 1;
  size_t unfinished = 0;  // operations in all queues
};
Streams& all() {
  static Streams& it = *new Streams;
  return it;
}

using Lock = std::unique_lock<std::mutex>;

bool pending(const MarkPtr& mark) { return mark && !mark->done; }

void finish(const MarkPtr& mark) {
  mark->when = Clock::now();
  mark->done = true;
}

void work_off(StreamPtr stream) {
  Lock lock(all().lock);
  for (;;) {
    all().changed.wait(lock, [&] { return !stream->queue.empty() || stream->destroyed; });
    if (stream->queue.empty()) return;
    Operation operation = std::move(stream->queue.front());
    for (const MarkPtr& mark : operation.after) all().changed.wait(lock, [&] { return mark->done.load(); });
    lock.unlock();
    std::this_thread::sleep_until(operation.not_before);
    set_current_device(stream->device);
    if (operation.run && !poisoned(stream->device)) poison(stream->device, operation.run());
    operation.run = nullptr;  // what it holds goes before anyone is told that it ended
    lock.lock();
    stream->queue.pop_front();
    finish(operation.mark);
    --all().unfinished;
    all().changed.notify_all();
  }
}

// What an operation on `stream` has to wait for besides those before it there: the rules of the legacy default stream
std::vector<MarkPtr> before(const Stream& stream) {
  std::vector<MarkPtr> marks;
  if (stream.legacy) {
    for (const auto& [handle, other] : all().streams)
      if (other->device == stream.device && !(other->flags & kNonBlocking) && pending(other->last)) marks.push_back(other->last);
  } else if (!(stream.flags & kNonBlocking)) {
    const auto legacy = all().legacy.find(stream.device);
    if (legacy != all().legacy.end() && pending(legacy->second->last)) marks.push_back(legacy->second->last);
  }
  return marks;
}

bool idle(const Stream& stream) { return !all().unfinished || (!pending(stream.last) && before(stream).empty()); }

void enqueue(const StreamPtr& stream, std::function<Error()> run, std::vector<MarkPtr> after, MarkPtr mark) {
  for (MarkPtr& it : before(*stream)) after.push_back(std::move(it));
  const auto latency = run ? std::chrono::microseconds(settings().latency_us) : std::chrono::microseconds(0);
  stream->queue.push_back({std::move(run), std::move(after), Clock::now() + latency, mark});
  stream->last = std::move(mark);
  ++all().unfinished;
  if (!stream->has_worker) {
    stream->has_worker = true;
    std::thread(work_off, stream).detach();
  }
  all().changed.notify_all();
}

void wait_for(Lock& lock, const std::vector<MarkPtr>& marks) {
  for (const MarkPtr& mark : marks)
    if (mark) all().changed.wait(lock, [&] { return mark->done.load(); });
}

Error capturing_elsewhere(const Stream& stream) {
  if (!stream.legacy) return kSuccess;
  for (const auto& [handle, other] : all().streams)
    if (other->device == stream.device && other->capture && !(other->flags & kNonBlocking))
      return refuse_while_capturing(other->capture, kCaptureImplicit);
  return kSuccess;
}

}  // namespace

std::mutex& streams_lock() { return all().lock; }

Error create_stream(unsigned flags, int priority, void** handle) {
  if (!handle || flags > kNonBlocking) return kInvalidValue;
  const Lock lock(all().lock);
  auto stream = std::make_shared<Stream>();
  stream->device = current_device();
  stream->flags = flags;
  stream->priority = priority;
  stream->id = all().next_id++;
  *handle = stream.get();
  all().streams[*handle] = std::move(stream);
  return kSuccess;
}

Error destroy_stream(void* handle) {
  const Lock lock(all().lock);
  const auto it = all().streams.find(handle);
  if (it == all().streams.end()) return kInvalidHandle;
  it->second->destroyed = true;  // its worker ends when the queue is empty
  all().streams.erase(it);
  all().changed.notify_all();
  return kSuccess;
}

Error find_stream(void* handle, StreamPtr* stream) {
  const uintptr_t number = reinterpret_cast<uintptr_t>(handle);
  if (number == 2) return not_implemented("cudaStreamPerThread");
  const Lock lock(all().lock);
  if (number <= 1) {
    StreamPtr& legacy = all().legacy[current_device()];
    if (!legacy) {
      legacy = std::make_shared<Stream>();
      legacy->device = current_device();
      legacy->legacy = true;
    }
    *stream = legacy;
    return kSuccess;
  }
  const auto it = all().streams.find(handle);
  if (it == all().streams.end()) return kInvalidHandle;
  *stream = it->second;
  return kSuccess;
}

Error create_event(unsigned flags, void** handle) {
  if (!handle) return kInvalidValue;
  auto event = std::make_shared<Event>();
  event->flags = flags;
  const Lock lock(all().lock);
  *handle = event.get();
  all().events[*handle] = std::move(event);
  return kSuccess;
}

Error destroy_event(void* handle) {
  const Lock lock(all().lock);
  return all().events.erase(handle) ? kSuccess : kInvalidHandle;
}

Error find_event(void* handle, EventPtr* event) {
  const Lock lock(all().lock);
  const auto it = all().events.find(handle);
  if (it == all().events.end()) return kInvalidHandle;
  *event = it->second;
  return kSuccess;
}

Error submit(const StreamPtr& stream, Work work, bool wait) {
  Lock lock(all().lock);
  if (stream->capture) {
    if (wait) return refuse_while_capturing(stream->capture, kCaptureUnsupported);
    return record_node(*stream, std::move(work));
  }
  if (const Error error = capturing_elsewhere(*stream)) return error;
  if (!settings().latency_us && idle(*stream)) {
    lock.unlock();
    const Error error = work.run();
    poison(stream->device, error);
    return error;
  }
  auto mark = std::make_shared<Mark>();
  enqueue(stream, std::move(work.run), {}, mark);
  if (!wait) return kSuccess;
  wait_for(lock, {mark});
  lock.unlock();
  return poisoned(stream->device);
}

bool capturing(const StreamPtr& stream) {
  const Lock lock(all().lock);
  return stream->capture != nullptr;
}

Error wait_for_stream(const StreamPtr& stream) {
  Lock lock(all().lock);
  if (stream->capture) return refuse_while_capturing(stream->capture, kCaptureUnsupported);
  if (const Error error = capturing_elsewhere(*stream)) return error;
  auto marks = before(*stream);
  marks.push_back(stream->last);
  wait_for(lock, marks);
  lock.unlock();
  return poisoned(stream->device);
}

Error wait_for_device(int device) {
  Lock lock(all().lock);
  std::vector<MarkPtr> marks;
  for (const auto& [handle, stream] : all().streams) {
    if (stream->device != device) continue;
    if (stream->capture) return refuse_while_capturing(stream->capture, kCaptureUnsupported);
    marks.push_back(stream->last);
  }
  const auto legacy = all().legacy.find(device);
  if (legacy != all().legacy.end()) marks.push_back(legacy->second->last);
  wait_for(lock, marks);
  lock.unlock();
  return poisoned(device);
}

Error query_stream(const StreamPtr& stream) {
  const Lock lock(all().lock);
  if (stream->capture) return refuse_while_capturing(stream->capture, kCaptureUnsupported);
  return idle(*stream) ? kSuccess : kNotReady;
}

Error record_event(const EventPtr& event, const StreamPtr& stream) {
  const Lock lock(all().lock);
  if (stream->capture) {
    if (stream->capture->invalid) return kCaptureInvalidated;
    event->capture = stream->capture;
    event->tail = stream->tail;
    event->mark = nullptr;
    return kSuccess;
  }
  event->capture = nullptr;
  event->mark = std::make_shared<Mark>();
  if (idle(*stream))
    finish(event->mark);
  else
    enqueue(stream, nullptr, {}, event->mark);
  return kSuccess;
}

Error wait_for_event(const EventPtr& event) {
  Lock lock(all().lock);
  if (event->capture) return refuse_while_capturing(event->capture, kCapturedEvent);
  wait_for(lock, {event->mark});
  return kSuccess;
}

Error query_event(const EventPtr& event) {
  const Lock lock(all().lock);
  if (event->capture) return refuse_while_capturing(event->capture, kCapturedEvent);
  return pending(event->mark) ? kNotReady : kSuccess;
}

Error elapsed_ms(const EventPtr& start, const EventPtr& end, float* ms) {
  const Lock lock(all().lock);
  if ((start->flags | end->flags) & kDisableTiming || !start->mark || !end->mark) return kInvalidHandle;
  if (pending(start->mark) || pending(end->mark)) return kNotReady;
  *ms = std::chrono::duration<float, std::milli>(end->mark->when - start->mark->when).count();
  return kSuccess;
}

Error make_stream_wait(const StreamPtr& stream, const EventPtr& event) {
  const Lock lock(all().lock);
  if (event->capture && !event->capture->ended) {
    const auto& capture = event->capture;
    if (capture->invalid) return kCaptureInvalidated;
    if (stream->legacy) return refuse_while_capturing(capture, kCaptureImplicit);
    if (stream->capture && stream->capture != capture) return refuse_while_capturing(stream->capture, kCaptureMerge);
    if (!stream->capture) {  // the stream joins
      stream->capture = capture;
      stream->tail.clear();
      capture->members.push_back(stream);
    }
    stream->tail.insert(stream->tail.end(), event->tail.begin(), event->tail.end());
    return kSuccess;
  }
  if (stream->capture) return refuse_while_capturing(stream->capture, kCaptureIsolation);
  if (pending(event->mark)) enqueue(stream, nullptr, {event->mark}, std::make_shared<Mark>());
  return kSuccess;
}

}  // namespace fakecard
