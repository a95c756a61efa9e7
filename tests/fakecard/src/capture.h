// Which streams are being captured, and the rules that hold meanwhile.
#pragma once
#include "stream.h"

namespace fakecard {

enum class CaptureMode { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };
enum class CaptureStatus { kNone = 0, kActive = 1, kInvalidated = 2 };

struct Capture {
  uint64_t id;
  CaptureMode mode;
  std::thread::id thread;
  Stream* origin;
  Graph* graph;
  bool invalid = false, ended = false;
  std::vector<StreamPtr> members;
};

// All of these expect the streams' lock to be held
Error record_node(Stream& stream, Work work);
CaptureStatus status_of(const Stream& stream);
Error refuse_while_capturing(const std::shared_ptr<Capture>& capture, Error error);

// For calls that are unsafe in this thread while another operation is captured (cudaMalloc, a synchronous copy)
Error refuse_unsafe();
CaptureMode exchange_mode(CaptureMode mode);

Error begin_capture(const StreamPtr& stream, CaptureMode mode);
Error end_capture(const StreamPtr& stream, Graph** graph);
CaptureStatus capture_status(const StreamPtr& stream, uint64_t* id, Graph** graph, const std::vector<Node*>** tail);

void abandon_captures();  // for tests: what an earlier one left open

std::mutex& streams_lock();

}  // namespace fakecard
