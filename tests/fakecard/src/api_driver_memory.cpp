// The driver's calls about memory whose names or parameters are its own. A CUdeviceptr is an address.
#include "capture.h"
#include "copy.h"
#include "memory.h"

using namespace fakecard;

namespace {

Error move(void* to, const void* from, size_t bytes, Direction direction, void* handle, bool asynchronous) {
  StreamPtr stream;
  const Error error = find_stream(handle, &stream);
  return error ? error : copy({to, from, {bytes}, {}, {}}, direction, stream, asynchronous);
}

// `elements` in a row of `element_bytes` each
Error set(void* to, size_t pitch, unsigned value, unsigned element_bytes, size_t elements, size_t rows, void* handle,
          bool asynchronous) {
  StreamPtr stream;
  const Error error = find_stream(handle, &stream);
  return error ? error : fill({to, value, element_bytes, {elements * element_bytes, rows}, {pitch}}, stream, asynchronous);
}

struct Copy2d {  // CUDA_MEMCPY2D_v2
  size_t from_x, from_y;
  int from_type;  // 1 host, 2 device, 3 array, 4 unified
  const char* from_host;
  const char* from_device;
  void* from_array;
  size_t from_pitch, to_x, to_y;
  int to_type;
  char* to_host;
  char* to_device;
  void* to_array;
  size_t to_pitch, width, height;
};
static_assert(sizeof(Copy2d) == 128, "as CUDA_MEMCPY2D");

Error copy_2d(const Copy2d& c, void* handle, bool asynchronous) {
  constexpr int kHost = 1, kArray = 3;
  if (c.from_type == kArray || c.to_type == kArray) return not_implemented("cuMemcpy2D of arrays");
  StreamPtr stream;
  if (const Error error = find_stream(handle, &stream)) return error;
  const char* from = c.from_type == kHost ? c.from_host : c.from_device;
  char* to = c.to_type == kHost ? c.to_host : c.to_device;
  return copy({to + c.to_y * c.to_pitch + c.to_x,
               from + c.from_y * c.from_pitch + c.from_x,
               {c.width, c.height},
               {c.to_pitch},
               {c.from_pitch}},
              Direction::kDefault, stream, asynchronous);
}

}  // namespace

#define CALL(name, parameters, ...) \
  FAKECARD_API Error name parameters { return driver_call(#name, [&]()->Error __VA_ARGS__); }

CALL(cuMemcpyHtoD_v2, (void* to, const void* from, size_t bytes),
     { return move(to, from, bytes, Direction::kH2d, nullptr, false); })
CALL(cuMemcpyDtoH_v2, (void* to, const void* from, size_t bytes),
     { return move(to, from, bytes, Direction::kD2h, nullptr, false); })
CALL(cuMemcpyDtoD_v2, (void* to, const void* from, size_t bytes),
     { return move(to, from, bytes, Direction::kD2d, nullptr, false); })
CALL(cuMemcpyHtoDAsync_v2, (void* to, const void* from, size_t bytes, void* stream),
     { return move(to, from, bytes, Direction::kH2d, stream, true); })
CALL(cuMemcpyDtoHAsync_v2, (void* to, const void* from, size_t bytes, void* stream),
     { return move(to, from, bytes, Direction::kD2h, stream, true); })
CALL(cuMemcpyDtoDAsync_v2, (void* to, const void* from, size_t bytes, void* stream),
     { return move(to, from, bytes, Direction::kD2d, stream, true); })
CALL(cuMemcpy, (void* to, const void* from, size_t bytes), { return move(to, from, bytes, Direction::kDefault, nullptr, false); })
CALL(cuMemcpyAsync, (void* to, const void* from, size_t bytes, void* stream),
     { return move(to, from, bytes, Direction::kDefault, stream, true); })
CALL(cuMemcpyPeer, (void* to, void*, const void* from, void*, size_t bytes),
     { return move(to, from, bytes, Direction::kD2d, nullptr, false); })
CALL(cuMemcpyPeerAsync, (void* to, void*, const void* from, void*, size_t bytes, void* stream),
     { return move(to, from, bytes, Direction::kD2d, stream, true); })
CALL(cuMemcpy2D_v2, (const Copy2d* c), { return copy_2d(*c, nullptr, false); })
CALL(cuMemcpy2DUnaligned_v2, (const Copy2d* c), { return copy_2d(*c, nullptr, false); })
CALL(cuMemcpy2DAsync_v2, (const Copy2d* c, void* stream), { return copy_2d(*c, stream, true); })

CALL(cuMemsetD8_v2, (void* to, unsigned char value, size_t n), { return set(to, 0, value, 1, n, 1, nullptr, false); })
CALL(cuMemsetD16_v2, (void* to, unsigned short value, size_t n), { return set(to, 0, value, 2, n, 1, nullptr, false); })
CALL(cuMemsetD32_v2, (void* to, unsigned value, size_t n), { return set(to, 0, value, 4, n, 1, nullptr, false); })
CALL(cuMemsetD8Async, (void* to, unsigned char value, size_t n, void* stream),
     { return set(to, 0, value, 1, n, 1, stream, true); })
CALL(cuMemsetD16Async, (void* to, unsigned short value, size_t n, void* stream),
     { return set(to, 0, value, 2, n, 1, stream, true); })
CALL(cuMemsetD32Async, (void* to, unsigned value, size_t n, void* stream), { return set(to, 0, value, 4, n, 1, stream, true); })
CALL(cuMemsetD2D8_v2, (void* to, size_t pitch, unsigned char value, size_t width, size_t height),
     { return set(to, pitch, value, 1, width, height, nullptr, false); })
CALL(cuMemsetD2D16_v2, (void* to, size_t pitch, unsigned short value, size_t width, size_t height),
     { return set(to, pitch, value, 2, width, height, nullptr, false); })
CALL(cuMemsetD2D32_v2, (void* to, size_t pitch, unsigned value, size_t width, size_t height),
     { return set(to, pitch, value, 4, width, height, nullptr, false); })
CALL(cuMemsetD2D8Async, (void* to, size_t pitch, unsigned char value, size_t width, size_t height, void* stream),
     { return set(to, pitch, value, 1, width, height, stream, true); })
CALL(cuMemsetD2D16Async, (void* to, size_t pitch, unsigned short value, size_t width, size_t height, void* stream),
     { return set(to, pitch, value, 2, width, height, stream, true); })
CALL(cuMemsetD2D32Async, (void* to, size_t pitch, unsigned value, size_t width, size_t height, void* stream),
     { return set(to, pitch, value, 4, width, height, stream, true); })

CALL(cuMemGetAddressRange_v2, (void** begin, size_t* bytes, const void* pointer), {
  Span span;
  if (locate(pointer, 0, &span) || span.place != Place::kDevice) return kInvalidValue;
  if (begin) *begin = span.begin;
  if (bytes) *bytes = span.bytes;
  return kSuccess;
})
CALL(cuPointerGetAttribute, (void* value, int attribute, const void* pointer), {
  Span span;
  if (locate(pointer, 0, &span) || span.place == Place::kHost) return kInvalidValue;
  const bool device = span.place == Place::kDevice;
  switch (attribute) {
    case 2:  // memory type: host or device
      *static_cast<int*>(value) = device ? 2 : 1;
      return kSuccess;
    case 3:  // the address a card uses
      *static_cast<const void**>(value) = pointer;
      return kSuccess;
    case 4:  // the address a host uses
      if (device) return kInvalidValue;
      *static_cast<const void**>(value) = pointer;
      return kSuccess;
    case 8:  // managed memory
      *static_cast<int*>(value) = 0;
      return kSuccess;
    case 9:
      *static_cast<int*>(value) = span.device;
      return kSuccess;
    case 11:
      *static_cast<void**>(value) = span.begin;
      return kSuccess;
    case 12:
      *static_cast<size_t*>(value) = span.bytes;
      return kSuccess;
    default:
      return not_implemented(("cuPointerGetAttribute " + std::to_string(attribute)).c_str());
  }
})

struct AllocationProperties {  // the beginning of CUmemAllocationProp
  int type, handle_types, location_type, device;
};

CALL(cuMemGetAllocationGranularity, (size_t* bytes, const AllocationProperties*, int), {
  *bytes = kLargePage;
  return kSuccess;
})
CALL(cuMemAddressReserve, (void** pointer, size_t bytes, size_t, void*, unsigned long long),
     { return reserve_addresses(bytes, pointer); })
CALL(cuMemAddressFree, (void* pointer, size_t bytes), { return free_addresses(pointer, bytes); })
CALL(cuMemCreate, (uint64_t* handle, size_t bytes, const AllocationProperties* properties, unsigned long long),
     { return create_chunk(properties->device, bytes, handle); })
CALL(cuMemRelease, (uint64_t handle), { return release_chunk(handle); })
CALL(cuMemMap, (void* pointer, size_t bytes, size_t offset, uint64_t handle, unsigned long long),
     { return map_chunk(pointer, bytes, offset, handle); })
CALL(cuMemUnmap, (void* pointer, size_t bytes), { return unmap_chunk(pointer, bytes); })
CALL(cuMemSetAccess, (void* pointer, size_t bytes, const void*, size_t), {
  Span span;
  return locate(pointer, bytes, &span);
})
