// Calls about memory in stream order.
#include "card.h"
#include "pool.h"

using namespace fakecard;

namespace {

template <typename Body>
Error with_pool(Pool* pool, Body body) {
  return is_pool(pool) ? body() : kInvalidValue;
}

Error allocate_from(Pool* pool, size_t bytes, void* handle, void** pointer) {
  StreamPtr stream;
  if (const Error error = find_stream(handle, &stream)) return error;
  return allocate_in_order(pool ? pool : default_pool(stream->device), bytes, stream, pointer);
}

Error pool_of(int device, Pool** pool) {
  if (!device_exists(device)) return kInvalidDevice;
  *pool = default_pool(device);
  return kSuccess;
}

struct PoolProperties {  // the beginning of cudaMemPoolProps
  int allocation_type, handle_types, location_type, device;
};

}  // namespace

FAKECARD_PAIR(cudaMallocAsync, cuMemAllocAsync, (void** pointer, size_t bytes, void* stream),
              { return allocate_from(nullptr, bytes, stream, pointer); })
FAKECARD_PAIR(cudaMallocFromPoolAsync, cuMemAllocFromPoolAsync, (void** pointer, size_t bytes, Pool* pool, void* stream),
              { return pool ? allocate_from(pool, bytes, stream, pointer) : kInvalidValue; })
FAKECARD_PAIR(cudaFreeAsync, cuMemFreeAsync, (void* pointer, void* handle), {
  StreamPtr stream;
  const Error error = find_stream(handle, &stream);
  return error ? error : free_in_order(pointer, stream);
})
FAKECARD_PAIR(cudaDeviceGetDefaultMemPool, cuDeviceGetDefaultMemPool, (Pool * *pool, int device),
              { return pool_of(device, pool); })
FAKECARD_PAIR(cudaDeviceGetMemPool, cuDeviceGetMemPool, (Pool * *pool, int device), { return pool_of(device, pool); })
FAKECARD_PAIR(cudaMemPoolCreate, cuMemPoolCreate, (Pool * *pool, const PoolProperties* properties),
              { return device_exists(properties->device) ? create_pool(properties->device, pool) : kInvalidDevice; })
FAKECARD_PAIR(cudaMemPoolDestroy, cuMemPoolDestroy, (Pool * pool),
              { return with_pool(pool, [&] { return destroy_pool(pool); }); })
FAKECARD_PAIR(cudaMemPoolTrimTo, cuMemPoolTrimTo, (Pool * pool, size_t), {
  return with_pool(pool, [&] { return kSuccess; });  // freed memory was given back already
})
FAKECARD_PAIR(cudaMemPoolGetAttribute, cuMemPoolGetAttribute, (Pool * pool, int attribute, void* value),
              { return with_pool(pool, [&] { return get_attribute(*pool, attribute, value); }); })
FAKECARD_PAIR(cudaMemPoolSetAttribute, cuMemPoolSetAttribute, (Pool * pool, int attribute, void* value),
              { return with_pool(pool, [&] { return set_attribute(pool, attribute, value); }); })
FAKECARD_PAIR(cudaMemPoolSetAccess, cuMemPoolSetAccess, (Pool * pool, const void*, size_t),
              { return with_pool(pool, [&] { return settings().peer ? kSuccess : kPeerAccessUnsupported; }); })
