// What all parts of the fake card share: error numbers, the way into a call, counters, faults.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#define FAKECARD_API extern "C" __attribute__((visibility("default")))

namespace fakecard {

// The runtime (cudaError_t) and the driver (CUresult) share these numbers
enum Error : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInitializationError = 3,
  kInvalidMemcpyDirection = 21,
  kInvalidDeviceFunction = 98,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kNoBinaryForGpu = 209,
  kPeerAccessUnsupported = 217,
  kInvalidPtx = 218,
  kUnsupportedPtxVersion = 222,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kPeerAccessAlreadyEnabled = 704,
  kPeerAccessNotEnabled = 705,
  kAssert = 710,
  kAlreadyRegistered = 712,
  kNotRegistered = 713,
  kLaunchFailure = 719,
  kNotPermitted = 800,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureMerge = 902,
  kCaptureUnmatched = 903,
  kCaptureUnjoined = 904,
  kCaptureIsolation = 905,
  kCaptureImplicit = 906,
  kCapturedEvent = 907,
  kCaptureWrongThread = 908,
  kNotEmulated = 9000,  // ours alone: the card could run this kernel, but the fake card has no code for it
};

struct ErrorText {
  int number;
  const char* runtime_name;
  const char* driver_name;
  const char* text;
};
const ErrorText& text_of(int error);
const char* describe(int error);  // its text; with the kernel's name if this thread got it for a kernel that is not emulated
void set_not_emulated(const std::string& kernel);

// One of the CUDA runtime's last errors a thread
Error& last_error();

// Devices: the current one of the thread, and the error that an earlier operation left on it for ever
int current_device();
void set_current_device(int device);
void poison(int device, Error error);  // errors 700 to 799 stay until fakecard_reset
Error poisoned(int device);

// What happened, for the tests to read. Operations are counted when they run, so a graph counts at replay
enum Count {
  kH2d,
  kH2dBytes,
  kD2h,
  kD2hBytes,
  kD2d,
  kD2dBytes,
  kP2p,
  kP2pBytes,
  kH2h,
  kH2hBytes,
  kMemset,
  kMemsetBytes,
  kAllocation,
  kFree,
  kHostAllocation,
  kStreamSync,
  kEventSync,
  kDeviceSync,
  kGraphLaunch,
  kCounts
};
void count(Count what, size_t by = 1);
enum class Tally { kLaunched, kRefused, kNotEmulated, kQueried, kNotImplemented };
void tally(Tally what, const std::string& name);

// A call or operation that a test wants to fail: its number, or kSuccess. `detail` is a kernel's name or a copy's direction
Error fault(const char* what, const std::string& detail = {});

void add_fault(const char* what, const char* detail, int skip, int times, Error error);
std::string counters_as_json();
void forget();  // counters, faults, lasting errors

// Loud and by name, once each: what the fake card cannot do
Error not_implemented(const char* name);

enum Entry { kNormal = 0, kWithoutContext = 1 };  // the latter answers on a poisoned device and in a host callback too
Error enter(const char* call, Entry entry);
extern thread_local bool in_host_callback;

// The runtime makes the primary context of its device current by itself, the driver asks for one
void make_current(int device);
bool has_context();

template <typename Body>
Error driver_call(const char* name, Body body, Entry entry = kNormal) {
  if (const Error refused = enter(name, entry)) return refused;
  if (entry == kNormal && !has_context()) return kInvalidContext;
  return body();
}

template <typename Body>
Error runtime_call(const char* name, Body body, Entry entry = kNormal) {
  Error error = enter(name, entry);
  if (!error) {
    if (entry == kNormal) make_current(current_device());
    error = body();
  }
  if (error) last_error() = error;
  return error;
}

// A call that both libraries have, under two names
#define FAKECARD_PAIR(runtime, driver, parameters, ...) \
  FAKECARD_PAIR_(#runtime, #driver, runtime, driver, parameters, __VA_ARGS__)
#define FAKECARD_PAIR_(runtime_name, driver_name, runtime, driver, parameters, ...)  \
  FAKECARD_API fakecard::Error runtime parameters {                                  \
    return fakecard::runtime_call(runtime_name, [&]()->fakecard::Error __VA_ARGS__); \
  }                                                                                  \
  FAKECARD_API fakecard::Error driver parameters {                                   \
    return fakecard::driver_call(driver_name, [&]()->fakecard::Error __VA_ARGS__);   \
  }

}  // namespace fakecard
