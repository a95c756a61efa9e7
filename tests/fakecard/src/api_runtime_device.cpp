// The runtime's calls about devices, errors and versions.
#include <cstdio>
#include <cstring>

#include "card.h"
#include "device.h"
#include "memory.h"
#include "stream.h"

using namespace fakecard;

FAKECARD_API Error cudaGetDeviceCount(int* count) {
  return runtime_call(
      __func__,
      [&] {
        *count = static_cast<int>(cards().size());
        return *count ? kSuccess : kNoDevice;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaGetDevice(int* device) {
  return runtime_call(
      __func__,
      [&] {
        *device = current_device();
        return kSuccess;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaSetDevice(int device) {
  return runtime_call(
      __func__,
      [&] {
        if (!device_exists(device)) return kInvalidDevice;
        make_current(device);
        return kSuccess;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaSetDeviceFlags(unsigned) {
  return runtime_call(__func__, [&] { return kSuccess; }, kWithoutContext);  // how to wait: there is one way here
}

static Error properties(void* filled, int device) {
  if (!device_exists(device)) return kInvalidDevice;
  fill_properties(cards()[static_cast<size_t>(device)], device, filled);
  return kSuccess;
}
#if FAKECARD_CUDA == 12
FAKECARD_API Error cudaGetDeviceProperties_v2(void* filled, int device) {
#else
FAKECARD_API Error cudaGetDeviceProperties(void* filled, int device) {
#endif
  return runtime_call(__func__, [&] { return properties(filled, device); }, kWithoutContext);
}

FAKECARD_API Error cudaDeviceGetAttribute(int* value, int attribute, int device) {
  return runtime_call(
      __func__,
      [&] {
        if (!device_exists(device)) return kInvalidDevice;
        Error error;
        *value = device_attribute(cards()[static_cast<size_t>(device)], device, attribute, &error);
        return error;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaDeviceGetPCIBusId(char* text, int bytes, int device) {
  return runtime_call(
      __func__,
      [&] {
        if (!device_exists(device)) return kInvalidDevice;
        return snprintf(text, static_cast<size_t>(bytes), "0000:%02X:00.0", device + 1) < bytes ? kSuccess : kInvalidValue;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return runtime_call(__func__, [&] {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return kSuccess;
  });
}

FAKECARD_API Error cudaDeviceSynchronize() {
  return runtime_call(__func__, [&] {
    count(kDeviceSync);
    return wait_for_device(current_device());
  });
}

FAKECARD_API Error cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return runtime_call(
      __func__,
      [&] {
        if (!device_exists(device) || !device_exists(peer)) return kInvalidDevice;
        *can = device != peer && settings().peer;
        return kSuccess;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return runtime_call(__func__, [&] { return flags ? kInvalidValue : enable_peer(current_device(), peer); });
}

FAKECARD_API Error cudaDeviceDisablePeerAccess(int peer) {
  return runtime_call(__func__, [&] { return disable_peer(current_device(), peer); });
}

FAKECARD_API Error cudaRuntimeGetVersion(int* version) {
  return runtime_call(
      __func__,
      [&] {
        *version = settings().runtime_version;
        return kSuccess;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaDriverGetVersion(int* version) {
  return runtime_call(
      __func__,
      [&] {
        *version = settings().driver_version;
        return kSuccess;
      },
      kWithoutContext);
}

FAKECARD_API Error cudaGetLastError() {
  const Error error = last_error();
  last_error() = kSuccess;
  const Error lasting = poisoned(current_device());
  return lasting ? lasting : error;
}

FAKECARD_API Error cudaPeekAtLastError() {
  const Error lasting = poisoned(current_device());
  return lasting ? lasting : last_error();
}

FAKECARD_API const char* cudaGetErrorName(Error error) { return text_of(error).runtime_name; }

FAKECARD_API const char* cudaGetErrorString(Error error) { return describe(error); }

FAKECARD_API Error cudaProfilerStart() {
  return runtime_call(__func__, [&] { return kSuccess; });
}
FAKECARD_API Error cudaProfilerStop() {
  return runtime_call(__func__, [&] { return kSuccess; });
}

// 0: found; 1: no such symbol
static Error entry_point(const char* name, void** function, int* status) {
  *function = driver_entry(name);
  if (status) *status = *function ? 0 : 1;
  return *function ? kSuccess : kNotFound;
}

FAKECARD_API Error cudaGetDriverEntryPoint(const char* name, void** function, unsigned long long, int* status) {
  return runtime_call(__func__, [&] { return entry_point(name, function, status); }, kWithoutContext);
}

FAKECARD_API Error cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                                    int* status) {
  return runtime_call(__func__, [&] { return entry_point(name, function, status); }, kWithoutContext);
}
