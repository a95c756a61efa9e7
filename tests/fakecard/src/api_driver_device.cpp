// The driver's calls about devices, contexts, errors and functions by name.
#include <cstdio>
#include <cstring>

#include "card.h"
#include "device.h"
#include "memory.h"
#include "stream.h"

using namespace fakecard;

namespace {

// A context is its device's primary one, and its handle the device's number plus this
constexpr uintptr_t kFirstContext = 0xCA4D0000;

void* context_of(int device) { return reinterpret_cast<void*>(kFirstContext + static_cast<uintptr_t>(device)); }
bool device_of(void* context, int* device) {
  *device = static_cast<int>(reinterpret_cast<uintptr_t>(context) - kFirstContext);
  return device_exists(*device);
}

thread_local std::vector<void*> t_pushed;

Error set_context(void* context) {
  int device;
  if (!context) {
    drop_context();
    return kSuccess;
  }
  if (!device_of(context, &device)) return kInvalidContext;
  make_current(device);
  return kSuccess;
}

void* current_context() { return has_context() ? context_of(current_device()) : nullptr; }

template <typename Body>
Error about(const char* name, int device, Body body) {
  return driver_call(
      name,
      [&] {
        if (!device_exists(device)) return kInvalidDevice;
        return body(cards()[static_cast<size_t>(device)]);
      },
      kWithoutContext);
}

}  // namespace

FAKECARD_API Error cuInit(unsigned) {
  return driver_call(__func__, [&] { return cards().empty() ? kNoDevice : kSuccess; }, kWithoutContext);
}
FAKECARD_API Error cuDriverGetVersion(int* version) {
  return driver_call(
      __func__,
      [&] {
        *version = settings().driver_version;
        return kSuccess;
      },
      kWithoutContext);
}
FAKECARD_API Error cuDeviceGetCount(int* count) {
  return driver_call(
      __func__,
      [&] {
        *count = static_cast<int>(cards().size());
        return kSuccess;
      },
      kWithoutContext);
}
FAKECARD_API Error cuDeviceGet(int* device, int ordinal) {
  return about(__func__, ordinal, [&](const Card&) {
    *device = ordinal;
    return kSuccess;
  });
}
FAKECARD_API Error cuDeviceGetName(char* text, int bytes, int device) {
  return about(__func__, device, [&](const Card& card) {
    snprintf(text, static_cast<size_t>(bytes), "%s", card.name.c_str());
    return kSuccess;
  });
}
FAKECARD_API Error cuDeviceTotalMem_v2(size_t* bytes, int device) {
  return about(__func__, device, [&](const Card& card) {
    *bytes = card.memory;
    return kSuccess;
  });
}
FAKECARD_API Error cuDeviceComputeCapability(int* major, int* minor, int device) {
  return about(__func__, device, [&](const Card& card) {
    *major = card.major;
    *minor = card.minor;
    return kSuccess;
  });
}
FAKECARD_API Error cuDeviceGetAttribute(int* value, int attribute, int device) {
  return about(__func__, device, [&](const Card& card) {
    Error error;
    *value = device_attribute(card, device, attribute, &error);
    return error;
  });
}
FAKECARD_API Error cuDeviceGetUuid(unsigned char* uuid, int device) {
  return about(__func__, device, [&](const Card&) {
    memset(uuid, 0, 16);
    uuid[15] = static_cast<unsigned char>(device + 1);  // as in the runtime's properties
    return kSuccess;
  });
}
FAKECARD_API Error cuDeviceGetUuid_v2(unsigned char* uuid, int device) { return cuDeviceGetUuid(uuid, device); }
FAKECARD_API Error cuDeviceGetPCIBusId(char* text, int bytes, int device) {
  return about(__func__, device, [&](const Card&) {
    return snprintf(text, static_cast<size_t>(bytes), "0000:%02X:00.0", device + 1) < bytes ? kSuccess : kInvalidValue;
  });
}

FAKECARD_API Error cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  return about(__func__, device, [&](const Card&) {
    *flags = 0;
    *active = primary_active(device);
    return kSuccess;
  });
}
FAKECARD_API Error cuDevicePrimaryCtxRetain(void** context, int device) {
  return about(__func__, device, [&](const Card&) {
    *context = context_of(device);
    return kSuccess;
  });
}
FAKECARD_API Error cuDevicePrimaryCtxRelease_v2(int device) {
  return about(__func__, device, [&](const Card&) { return kSuccess; });  // it stays until the process ends
}
FAKECARD_API Error cuCtxGetCurrent(void** context) {
  return driver_call(
      __func__,
      [&] {
        *context = current_context();
        return kSuccess;
      },
      kWithoutContext);
}
FAKECARD_API Error cuCtxSetCurrent(void* context) {
  return driver_call(__func__, [&] { return set_context(context); }, kWithoutContext);
}
FAKECARD_API Error cuCtxPushCurrent_v2(void* context) {
  return driver_call(
      __func__,
      [&] {
        t_pushed.push_back(current_context());
        return set_context(context);
      },
      kWithoutContext);
}
FAKECARD_API Error cuCtxPopCurrent_v2(void** context) {
  return driver_call(
      __func__,
      [&] {
        if (t_pushed.empty()) return kInvalidContext;
        if (context) *context = current_context();
        void* before = t_pushed.back();
        t_pushed.pop_back();
        return set_context(before);
      },
      kWithoutContext);
}
FAKECARD_API Error cuCtxGetDevice(int* device) {
  return driver_call(
      __func__,
      [&] {
        if (!has_context()) return kInvalidContext;
        *device = current_device();
        return kSuccess;
      },
      kWithoutContext);
}
FAKECARD_API Error cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return driver_call(__func__, [&] {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return kSuccess;
  });
}
FAKECARD_API Error cuCtxSynchronize() {
  return driver_call(__func__, [&] {
    count(kDeviceSync);
    return wait_for_device(current_device());
  });
}
FAKECARD_API Error cuDeviceCanAccessPeer(int* can, int device, int peer) {
  return about(__func__, device, [&](const Card&) {
    if (!device_exists(peer)) return kInvalidDevice;
    *can = device != peer && settings().peer;
    return kSuccess;
  });
}
FAKECARD_API Error cuCtxEnablePeerAccess(void* context, unsigned flags) {
  return driver_call(__func__, [&] {
    int peer;
    if (flags) return kInvalidValue;
    return device_of(context, &peer) ? enable_peer(current_device(), peer) : kInvalidContext;
  });
}

FAKECARD_API Error cuGetErrorString(Error error, const char** text) {
  *text = describe(error);
  return text_of(error).number < 0 ? kInvalidValue : kSuccess;
}
FAKECARD_API Error cuGetErrorName(Error error, const char** name) {
  *name = text_of(error).driver_name;
  return text_of(error).number < 0 ? kInvalidValue : kSuccess;
}

// A driver's log would be told through these; this one never logs
FAKECARD_API Error cuLogsRegisterCallback(void (*)(void*, int, char*, size_t), void*, void** handle) {
  if (handle) *handle = nullptr;
  return kSuccess;
}
FAKECARD_API Error cuLogsUnregisterCallback(void*) { return kSuccess; }

FAKECARD_API Error cuGetProcAddress(const char* name, void** function, int, uint64_t) {
  *function = driver_entry(name);
  return *function ? kSuccess : kNotFound;
}
FAKECARD_API Error cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  *function = driver_entry(name);
  if (status) *status = *function ? 0 : 1;
  return *function ? kSuccess : kNotFound;
}
