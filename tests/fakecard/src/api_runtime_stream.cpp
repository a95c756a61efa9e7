// The runtime's calls about streams, events and host functions.
#include "capture.h"
#include "device.h"
#include "stream.h"

using namespace fakecard;

namespace {

template <typename Body>
Error with_stream(const char* name, void* handle, Body body) {
  return runtime_call(name, [&] {
    StreamPtr stream;
    const Error error = find_stream(handle, &stream);
    return error ? error : body(stream);
  });
}

template <typename Body>
Error with_event(const char* name, void* handle, Body body) {
  return runtime_call(name, [&] {
    EventPtr event;
    const Error error = find_event(handle, &event);
    return error ? error : body(event);
  });
}

Error make_stream(const char* name, void** handle, unsigned flags, int priority) {
  return runtime_call(name, [&] {
    make_current(current_device());
    return create_stream(flags, priority, handle);
  });
}

}  // namespace

FAKECARD_API Error cudaStreamCreate(void** handle) { return make_stream(__func__, handle, 0, 0); }
FAKECARD_API Error cudaStreamCreateWithFlags(void** handle, unsigned flags) { return make_stream(__func__, handle, flags, 0); }
FAKECARD_API Error cudaStreamCreateWithPriority(void** handle, unsigned flags, int priority) {
  return make_stream(__func__, handle, flags, priority);
}
FAKECARD_API Error cudaStreamDestroy(void* handle) {
  return runtime_call(__func__, [&] { return destroy_stream(handle); });
}
FAKECARD_API Error cudaStreamSynchronize(void* handle) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    count(kStreamSync);
    return wait_for_stream(stream);
  });
}
FAKECARD_API Error cudaStreamQuery(void* handle) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) { return query_stream(stream); });
}
FAKECARD_API Error cudaStreamGetPriority(void* handle, int* priority) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    *priority = stream->priority;
    return kSuccess;
  });
}
FAKECARD_API Error cudaStreamGetFlags(void* handle, unsigned* flags) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    *flags = stream->flags;
    return kSuccess;
  });
}
FAKECARD_API Error cudaStreamGetId(void* handle, unsigned long long* id) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    *id = stream->id;
    return kSuccess;
  });
}
FAKECARD_API Error cudaStreamGetDevice(void* handle, int* device) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    *device = stream->device;
    return kSuccess;
  });
}
FAKECARD_API Error cudaStreamWaitEvent(void* handle, void* event_handle, unsigned) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    EventPtr event;
    const Error error = find_event(event_handle, &event);
    return error ? error : make_stream_wait(stream, event);
  });
}

FAKECARD_API Error cudaEventCreate(void** handle) {
  return runtime_call(__func__, [&] { return create_event(0, handle); });
}
FAKECARD_API Error cudaEventCreateWithFlags(void** handle, unsigned flags) {
  return runtime_call(__func__, [&] { return create_event(flags, handle); });
}
FAKECARD_API Error cudaEventDestroy(void* handle) {
  return runtime_call(__func__, [&] { return destroy_event(handle); });
}
FAKECARD_API Error cudaEventRecordWithFlags(void* handle, void* stream_handle, unsigned) {
  return with_event(__func__, handle, [&](const EventPtr& event) {
    StreamPtr stream;
    const Error error = find_stream(stream_handle, &stream);
    return error ? error : record_event(event, stream);
  });
}
FAKECARD_API Error cudaEventRecord(void* handle, void* stream) { return cudaEventRecordWithFlags(handle, stream, 0); }
FAKECARD_API Error cudaEventQuery(void* handle) {
  return with_event(__func__, handle, [&](const EventPtr& event) {
    const Error error = refuse_unsafe();
    return error ? error : query_event(event);
  });
}
FAKECARD_API Error cudaEventSynchronize(void* handle) {
  return with_event(__func__, handle, [&](const EventPtr& event) {
    count(kEventSync);
    const Error error = wait_for_event(event);
    return error ? error : poisoned(current_device());
  });
}
FAKECARD_API Error cudaEventElapsedTime(float* ms, void* start_handle, void* end_handle) {
  return with_event(__func__, start_handle, [&](const EventPtr& start) {
    EventPtr end;
    const Error error = find_event(end_handle, &end);
    return error ? error : elapsed_ms(start, end, ms);
  });
}
FAKECARD_API Error cudaEventElapsedTime_v2(float* ms, void* start, void* end) { return cudaEventElapsedTime(ms, start, end); }

FAKECARD_API Error cudaLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    return submit(stream, {Kind::kHost, "host", [=] {
                             in_host_callback = true;
                             function(data);
                             in_host_callback = false;
                             return kSuccess;
                           }});
  });
}
FAKECARD_API Error cudaStreamAddCallback(void* handle, void (*function)(void*, Error, void*), void* data, unsigned) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    return submit(stream, {Kind::kHost, "callback", [=] {
                             in_host_callback = true;
                             function(handle, kSuccess, data);
                             in_host_callback = false;
                             return kSuccess;
                           }});
  });
}

FAKECARD_API Error cudaStreamBeginCapture(void* handle, int mode) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    return mode < 0 || mode > 2 ? kInvalidValue : begin_capture(stream, static_cast<CaptureMode>(mode));
  });
}
FAKECARD_API Error cudaStreamEndCapture(void* handle, Graph** graph) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) { return end_capture(stream, graph); });
}
FAKECARD_API Error cudaThreadExchangeStreamCaptureMode(int* mode) {
  return runtime_call(__func__, [&] {
    *mode = static_cast<int>(exchange_mode(static_cast<CaptureMode>(*mode)));
    return kSuccess;
  });
}
FAKECARD_API Error cudaStreamIsCapturing(void* handle, int* status) {
  return with_stream(__func__, handle, [&](const StreamPtr& stream) {
    uint64_t id;
    Graph* graph;
    const std::vector<Node*>* tail;
    *status = static_cast<int>(capture_status(stream, &id, &graph, &tail));
    return kSuccess;
  });
}

namespace {
Error capture_info(const char* name, void* handle, int* status, unsigned long long* id, Graph** graph, Node* const** nodes,
                   size_t* count) {
  return with_stream(name, handle, [&](const StreamPtr& stream) {
    uint64_t found_id = 0;
    Graph* found_graph = nullptr;
    const std::vector<Node*>* tail = nullptr;
    *status = static_cast<int>(capture_status(stream, &found_id, &found_graph, &tail));
    if (id) *id = found_id;
    if (graph) *graph = found_graph;
    if (nodes) *nodes = tail ? tail->data() : nullptr;
    if (count) *count = tail ? tail->size() : 0;
    return kSuccess;
  });
}
}  // namespace

FAKECARD_API Error cudaStreamGetCaptureInfo_v2(void* handle, int* status, unsigned long long* id, Graph** graph,
                                               Node* const** nodes, size_t* count) {
  return capture_info(__func__, handle, status, id, graph, nodes, count);
}
#if FAKECARD_CUDA == 12
FAKECARD_API Error cudaStreamGetCaptureInfo(void* handle, int* status, unsigned long long* id) {
  return capture_info(__func__, handle, status, id, nullptr, nullptr, nullptr);
}
FAKECARD_API Error cudaStreamGetCaptureInfo_v3(void* handle, int* status, unsigned long long* id, Graph** graph,
                                               Node* const** nodes, const void** edges, size_t* count) {
#else
FAKECARD_API Error cudaStreamGetCaptureInfo(void* handle, int* status, unsigned long long* id, Graph** graph, Node* const** nodes,
                                            const void** edges, size_t* count) {
#endif
  if (edges) *edges = nullptr;
  return capture_info(__func__, handle, status, id, graph, nodes, count);
}
