// Stream capture: what may be done while it lasts, and how it ends.
#include "capture.h"

#include <algorithm>
#include <set>
#include <utility>

#include "graph.h"

namespace fakecard {
namespace {

std::vector<std::shared_ptr<Capture>>& active() {
  static auto& it = *new std::vector<std::shared_ptr<Capture>>;
  return it;
}
thread_local CaptureMode t_mode = CaptureMode::kGlobal;

bool joined(const Capture& capture) {
  std::set<const Node*> reached;
  std::vector<Node*> open = capture.origin->tail;
  while (!open.empty()) {
    Node* node = open.back();
    open.pop_back();
    if (reached.insert(node).second) open.insert(open.end(), node->after.begin(), node->after.end());
  }
  for (const StreamPtr& member : capture.members)
    for (const Node* node : member->tail)
      if (!reached.count(node)) return false;
  return true;
}

// The streams are as before; the graph stays with the caller
void close(const std::shared_ptr<Capture>& capture) {
  for (const StreamPtr& member : capture->members) {
    member->capture = nullptr;
    member->tail.clear();
  }
  capture->members.clear();
  capture->ended = true;
  active().erase(std::find(active().begin(), active().end(), capture));
}

}  // namespace

Error record_node(Stream& stream, Work work) {
  Capture& capture = *stream.capture;
  if (capture.invalid) return kCaptureInvalidated;
  capture.graph->nodes.push_back(std::make_unique<Node>(Node{std::move(work), stream.tail}));
  stream.tail = {capture.graph->nodes.back().get()};
  return kSuccess;
}

CaptureStatus status_of(const Stream& stream) {
  if (!stream.capture) return CaptureStatus::kNone;
  return stream.capture->invalid ? CaptureStatus::kInvalidated : CaptureStatus::kActive;
}

Error refuse_while_capturing(const std::shared_ptr<Capture>& capture, Error error) {
  capture->invalid = true;
  return error;
}

Error refuse_unsafe() {
  const std::lock_guard<std::mutex> guard(streams_lock());
  if (t_mode == CaptureMode::kRelaxed) return kSuccess;
  for (const auto& capture : active()) {
    const bool mine = capture->thread == std::this_thread::get_id();
    const bool forbidden = t_mode == CaptureMode::kGlobal
                               ? capture->mode == CaptureMode::kGlobal || (mine && capture->mode == CaptureMode::kThreadLocal)
                               : mine && capture->mode != CaptureMode::kRelaxed;
    if (forbidden) return refuse_while_capturing(capture, kCaptureUnsupported);
  }
  return kSuccess;
}

CaptureMode exchange_mode(CaptureMode mode) { return std::exchange(t_mode, mode); }

Error begin_capture(const StreamPtr& stream, CaptureMode mode) {
  const std::lock_guard<std::mutex> guard(streams_lock());
  if (stream->legacy) return kCaptureUnsupported;
  if (stream->capture) return kInvalidValue;
  static uint64_t next_id = 1;
  auto capture = std::make_shared<Capture>();
  capture->id = next_id++;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream.get();
  capture->graph = new_graph();
  capture->members = {stream};
  stream->capture = capture;
  stream->tail.clear();
  active().push_back(std::move(capture));
  return kSuccess;
}

Error end_capture(const StreamPtr& stream, Graph** graph) {
  const std::lock_guard<std::mutex> guard(streams_lock());
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture) return kInvalidValue;
  if (capture->origin != stream.get()) return refuse_while_capturing(capture, kCaptureUnmatched);
  if (capture->mode != CaptureMode::kRelaxed && capture->thread != std::this_thread::get_id())
    return refuse_while_capturing(capture, kCaptureWrongThread);
  const Error error = capture->invalid ? kCaptureInvalidated : joined(*capture) ? kSuccess : kCaptureUnjoined;
  close(capture);
  if (error)
    destroy_graph(capture->graph);
  else
    *graph = capture->graph;
  return error;
}

CaptureStatus capture_status(const StreamPtr& stream, uint64_t* id, Graph** graph, const std::vector<Node*>** tail) {
  const std::lock_guard<std::mutex> guard(streams_lock());
  if (stream->capture) {
    *id = stream->capture->id;
    *graph = stream->capture->graph;
    *tail = &stream->tail;
  }
  return status_of(*stream);
}

void abandon_captures() {
  const std::lock_guard<std::mutex> guard(streams_lock());
  while (!active().empty()) {
    const std::shared_ptr<Capture> capture = active().back();
    close(capture);
    destroy_graph(capture->graph);
  }
}

}  // namespace fakecard
