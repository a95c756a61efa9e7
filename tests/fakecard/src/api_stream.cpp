// Calls about streams, events and host functions.
#include "capture.h"
#include "stream.h"

using namespace fakecard;

namespace {

template <typename Body>
Error with_stream(void* handle, Body body) {
  StreamPtr stream;
  const Error error = find_stream(handle, &stream);
  return error ? error : body(stream);
}

template <typename Body>
Error with_event(void* handle, Body body) {
  EventPtr event;
  const Error error = find_event(handle, &event);
  return error ? error : body(event);
}

Error record(void* event_handle, void* stream_handle) {
  return with_event(event_handle, [&](const EventPtr& event) {
    return with_stream(stream_handle, [&](const StreamPtr& stream) { return record_event(event, stream); });
  });
}

template <typename Function>
Error call_on_host(void* handle, const char* label, Function function) {
  return with_stream(handle, [&](const StreamPtr& stream) {
    return submit(stream, {Kind::kHost, label, [=] {
                             in_host_callback = true;
                             function();
                             in_host_callback = false;
                             return kSuccess;
                           }});
  });
}

Error capture_info(void* handle, int* status, unsigned long long* id, Graph** graph, Node* const** nodes, size_t* count) {
  return with_stream(handle, [&](const StreamPtr& stream) {
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

FAKECARD_API Error cudaStreamCreate(void** handle) {
  return runtime_call(__func__, [&] { return create_stream(0, 0, handle); });
}
FAKECARD_PAIR(cudaStreamCreateWithFlags, cuStreamCreate, (void** handle, unsigned flags),
              { return create_stream(flags, 0, handle); })
FAKECARD_PAIR(cudaStreamCreateWithPriority, cuStreamCreateWithPriority, (void** handle, unsigned flags, int priority),
              { return create_stream(flags, priority, handle); })
FAKECARD_PAIR(cudaStreamDestroy, cuStreamDestroy_v2, (void* handle), { return destroy_stream(handle); })
FAKECARD_PAIR(cudaStreamSynchronize, cuStreamSynchronize, (void* handle), {
  count(kStreamSync);
  return with_stream(handle, wait_for_stream);
})
FAKECARD_PAIR(cudaStreamQuery, cuStreamQuery, (void* handle), { return with_stream(handle, query_stream); })
FAKECARD_PAIR(cudaStreamGetPriority, cuStreamGetPriority, (void* handle, int* priority), {
  return with_stream(handle, [&](const StreamPtr& stream) {
    *priority = stream->priority;
    return kSuccess;
  });
})
FAKECARD_PAIR(cudaStreamGetFlags, cuStreamGetFlags, (void* handle, unsigned* flags), {
  return with_stream(handle, [&](const StreamPtr& stream) {
    *flags = stream->flags;
    return kSuccess;
  });
})
FAKECARD_PAIR(cudaStreamGetId, cuStreamGetId, (void* handle, unsigned long long* id), {
  return with_stream(handle, [&](const StreamPtr& stream) {
    *id = stream->id;
    return kSuccess;
  });
})
FAKECARD_PAIR(cudaStreamGetDevice, cuStreamGetDevice, (void* handle, int* device), {
  return with_stream(handle, [&](const StreamPtr& stream) {
    *device = stream->device;
    return kSuccess;
  });
})
FAKECARD_PAIR(cudaStreamWaitEvent, cuStreamWaitEvent, (void* handle, void* event_handle, unsigned), {
  return with_stream(handle, [&](const StreamPtr& stream) {
    return with_event(event_handle, [&](const EventPtr& event) { return make_stream_wait(stream, event); });
  });
})

FAKECARD_API Error cudaEventCreate(void** handle) {
  return runtime_call(__func__, [&] { return create_event(0, handle); });
}
FAKECARD_PAIR(cudaEventCreateWithFlags, cuEventCreate, (void** handle, unsigned flags), { return create_event(flags, handle); })
FAKECARD_PAIR(cudaEventDestroy, cuEventDestroy_v2, (void* handle), { return destroy_event(handle); })
FAKECARD_PAIR(cudaEventRecord, cuEventRecord, (void* event, void* stream), { return record(event, stream); })
FAKECARD_PAIR(cudaEventRecordWithFlags, cuEventRecordWithFlags, (void* event, void* stream, unsigned flags),
              { return flags ? not_implemented("cudaEventRecordExternal") : record(event, stream); })
FAKECARD_PAIR(cudaEventQuery, cuEventQuery, (void* handle), {
  const Error error = refuse_unsafe();
  return error ? error : with_event(handle, query_event);
})
FAKECARD_PAIR(cudaEventSynchronize, cuEventSynchronize, (void* handle), {
  count(kEventSync);
  const Error error = with_event(handle, wait_for_event);
  return error ? error : poisoned(current_device());
})
#define ELAPSED                                                                                       \
  {                                                                                                   \
    return with_event(start_handle, [&](const EventPtr& start) {                                      \
      return with_event(end_handle, [&](const EventPtr& end) { return elapsed_ms(start, end, ms); }); \
    });                                                                                               \
  }
FAKECARD_PAIR(cudaEventElapsedTime, cuEventElapsedTime, (float* ms, void* start_handle, void* end_handle), ELAPSED)
FAKECARD_PAIR(cudaEventElapsedTime_v2, cuEventElapsedTime_v2, (float* ms, void* start_handle, void* end_handle), ELAPSED)

FAKECARD_PAIR(cudaLaunchHostFunc, cuLaunchHostFunc, (void* handle, void (*function)(void*), void* data),
              { return call_on_host(handle, "host function", [=] { function(data); }); })
FAKECARD_PAIR(cudaStreamAddCallback, cuStreamAddCallback,
              (void* handle, void (*function)(void*, Error, void*), void* data, unsigned),
              { return call_on_host(handle, "callback", [=] { function(handle, kSuccess, data); }); })

FAKECARD_PAIR(cudaStreamBeginCapture, cuStreamBeginCapture_v2, (void* handle, int mode), {
  return with_stream(handle, [&](const StreamPtr& stream) {
    return mode < 0 || mode > 2 ? kInvalidValue : begin_capture(stream, static_cast<CaptureMode>(mode));
  });
})
FAKECARD_PAIR(cudaStreamEndCapture, cuStreamEndCapture, (void* handle, Graph** graph),
              { return with_stream(handle, [&](const StreamPtr& stream) { return end_capture(stream, graph); }); })
FAKECARD_PAIR(cudaThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode, (int* mode), {
  *mode = static_cast<int>(exchange_mode(static_cast<CaptureMode>(*mode)));
  return kSuccess;
})
FAKECARD_PAIR(cudaStreamIsCapturing, cuStreamIsCapturing, (void* handle, int* status),
              { return capture_info(handle, status, nullptr, nullptr, nullptr, nullptr); })
FAKECARD_PAIR(cudaStreamGetCaptureInfo_v2, cuStreamGetCaptureInfo_v2,
              (void* handle, int* status, unsigned long long* id, Graph** graph, Node* const** nodes, size_t* count),
              { return capture_info(handle, status, id, graph, nodes, count); })
// From CUDA 13 on the first name stands for what was the third
#if FAKECARD_CUDA == 12
FAKECARD_API Error cudaStreamGetCaptureInfo(void* handle, int* status, unsigned long long* id) {
  return runtime_call(__func__, [&] { return capture_info(handle, status, id, nullptr, nullptr, nullptr); });
}
#define CAPTURE_INFO cudaStreamGetCaptureInfo_v3
#else
#define CAPTURE_INFO cudaStreamGetCaptureInfo
#endif
FAKECARD_PAIR(CAPTURE_INFO, cuStreamGetCaptureInfo_v3,
              (void* handle, int* status, unsigned long long* id, Graph** graph, Node* const** nodes, const void** edges,
               size_t* count),
              {
                if (edges) *edges = nullptr;
                return capture_info(handle, status, id, graph, nodes, count);
              })
