// The runtime's calls about memory: allocation, pinning, copies, fills.
#include <cstring>

#include "capture.h"
#include "card.h"
#include "copy.h"
#include "device.h"
#include "memory.h"

using namespace fakecard;

namespace {

Error copy_box(const Transfer& transfer, int kind, void* stream_handle, bool asynchronous) {
  StreamPtr stream;
  if (kind < 0 || kind > 4) return kInvalidMemcpyDirection;
  if (const Error error = find_stream(stream_handle, &stream)) return error;
  return copy(transfer, static_cast<Direction>(kind), stream, asynchronous);
}

Error fill_box(const Fill& asked, void* stream_handle, bool asynchronous) {
  StreamPtr stream;
  if (const Error error = find_stream(stream_handle, &stream)) return error;
  return fill(asked, stream, asynchronous);
}

struct Pitched {
  void* pointer;
  size_t pitch, width, height;
};
struct Extent {
  size_t width, height, depth;
};
struct Position {
  size_t x, y, z;
};
struct Parameters3d {
  void* from_array;
  Position from_at;
  Pitched from;
  void* to_array;
  Position to_at;
  Pitched to;
  Extent extent;
  int kind;
};
static_assert(sizeof(Parameters3d) == 160, "as cudaMemcpy3DParms");

Error copy_3d(const Parameters3d& p, void* stream, bool asynchronous) {
  if (p.from_array || p.to_array) return not_implemented("cudaMemcpy3D of arrays");
  const auto start = [](const Pitched& it, const Position& at) {
    return static_cast<char*>(it.pointer) + at.z * it.pitch * it.height + at.y * it.pitch + at.x;
  };
  return copy_box({start(p.to, p.to_at),
                   start(p.from, p.from_at),
                   {p.extent.width, p.extent.height, p.extent.depth},
                   {p.to.pitch, p.to.pitch * p.to.height},
                   {p.from.pitch, p.from.pitch * p.from.height}},
                  p.kind, stream, asynchronous);
}

}  // namespace

FAKECARD_PAIR(cudaMalloc, cuMemAlloc_v2, (void** pointer, size_t bytes), {
  const Error error = refuse_unsafe();
  return error ? error : allocate(current_device(), bytes, pointer);
})

FAKECARD_PAIR(cudaFree, cuMemFree_v2, (void* pointer), {
  Span span;
  if (!pointer) return kSuccess;
  if (const Error error = refuse_unsafe()) return error;
  if (const Error error = locate(pointer, 0, &span)) return error;
  if (span.place != Place::kDevice || span.begin != pointer) return kInvalidValue;
  wait_for_device(span.device);  // as the real one: what still uses the memory ends first
  return release(pointer);
})

FAKECARD_PAIR(cudaHostAlloc, cuMemHostAlloc, (void** pointer, size_t bytes, unsigned), { return pin(bytes, pointer); })
FAKECARD_PAIR(cudaMallocHost, cuMemAllocHost_v2, (void** pointer, size_t bytes), { return pin(bytes, pointer); })
FAKECARD_PAIR(cudaFreeHost, cuMemFreeHost, (void* pointer), {
  for (size_t device = 0; device < cards().size(); ++device) wait_for_device(static_cast<int>(device));
  return unpin(pointer);
})
FAKECARD_PAIR(cudaHostRegister, cuMemHostRegister_v2, (void* pointer, size_t bytes, unsigned),
              { return register_host(pointer, bytes); })
FAKECARD_PAIR(cudaHostUnregister, cuMemHostUnregister, (void* pointer), { return unregister_host(pointer); })
FAKECARD_PAIR(cudaHostGetDevicePointer, cuMemHostGetDevicePointer_v2, (void** pointer, void* host, unsigned), {
  Span span;
  if (locate(host, 0, &span) || span.place != Place::kPinned) return kInvalidValue;
  *pointer = host;
  return kSuccess;
})
FAKECARD_PAIR(cudaMemGetInfo, cuMemGetInfo_v2, (size_t* free, size_t* total), {
  *total = cards()[static_cast<size_t>(current_device())].memory;
  const size_t most = total_bytes(current_device()), used = used_bytes(current_device());
  *free = most > used ? most - used : 0;
  return kSuccess;
})

struct PointerAttributes {
  int type;  // 0 unregistered, 1 host, 2 device
  int device;
  void* device_pointer;
  void* host_pointer;
};
FAKECARD_API Error cudaPointerGetAttributes(PointerAttributes* attributes, const void* pointer) {
  return runtime_call(__func__, [&] {
    Span span;
    const bool outside = locate(pointer, 0, &span) != kSuccess;
    void* it = const_cast<void*>(pointer);
    if (outside || span.place == Place::kHost)
      *attributes = {0, -2, nullptr, it};
    else if (span.place == Place::kPinned)
      *attributes = {1, span.device, it, it};
    else
      *attributes = {2, span.device, it, nullptr};
    return kSuccess;
  });
}

FAKECARD_API Error cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  return runtime_call(__func__, [&] { return copy_box({to, from, {bytes}, {}, {}}, kind, nullptr, false); });
}
FAKECARD_API Error cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void* stream) {
  return runtime_call(__func__, [&] { return copy_box({to, from, {bytes}, {}, {}}, kind, stream, true); });
}
FAKECARD_API Error cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  return runtime_call(__func__, [&] { return copy_box({to, from, {bytes}, {}, {}}, 3, nullptr, false); });
}
FAKECARD_API Error cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* stream) {
  return runtime_call(__func__, [&] { return copy_box({to, from, {bytes}, {}, {}}, 3, stream, true); });
}
FAKECARD_API Error cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                                int kind) {
  return runtime_call(__func__,
                      [&] { return copy_box({to, from, {width, height}, {to_pitch}, {from_pitch}}, kind, nullptr, false); });
}
FAKECARD_API Error cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                                     int kind, void* stream) {
  return runtime_call(__func__,
                      [&] { return copy_box({to, from, {width, height}, {to_pitch}, {from_pitch}}, kind, stream, true); });
}
FAKECARD_API Error cudaMemcpy3D(const Parameters3d* parameters) {
  return runtime_call(__func__, [&] { return copy_3d(*parameters, nullptr, false); });
}
FAKECARD_API Error cudaMemcpy3DAsync(const Parameters3d* parameters, void* stream) {
  return runtime_call(__func__, [&] { return copy_3d(*parameters, stream, true); });
}

FAKECARD_API Error cudaMemset(void* to, int value, size_t bytes) {
  return runtime_call(__func__, [&] { return fill_box({to, unsigned(value), 1, {bytes}, {}}, nullptr, false); });
}
FAKECARD_API Error cudaMemsetAsync(void* to, int value, size_t bytes, void* stream) {
  return runtime_call(__func__, [&] { return fill_box({to, unsigned(value), 1, {bytes}, {}}, stream, true); });
}
FAKECARD_API Error cudaMemset2D(void* to, size_t pitch, int value, size_t width, size_t height) {
  return runtime_call(__func__, [&] { return fill_box({to, unsigned(value), 1, {width, height}, {pitch}}, nullptr, false); });
}
FAKECARD_API Error cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height, void* stream) {
  return runtime_call(__func__, [&] { return fill_box({to, unsigned(value), 1, {width, height}, {pitch}}, stream, true); });
}
