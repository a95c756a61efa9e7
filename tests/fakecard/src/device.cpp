// Contexts, peers, and functions by name.
#include "device.h"

#include <dlfcn.h>

#include <cstring>
#include <mutex>
#include <set>
#include <string>

#include "card.h"

namespace fakecard {

extern const char* const kNotImplementedNames[];  // made at build time (tests/fakecard/build.py), sorted
extern const size_t kNotImplementedCount;

namespace {

constexpr int kMostDevices = 64;
std::atomic<bool> active[kMostDevices];
thread_local bool t_has_context = false;
std::mutex peers_lock;
std::set<std::pair<int, int>>& peers() {
  static auto& it = *new std::set<std::pair<int, int>>;
  return it;
}

bool implemented(const std::string& name) {
  for (size_t i = 0; i < kNotImplementedCount; ++i)
    if (name == kNotImplementedNames[i]) return false;
  return true;
}

void* own_symbol(const std::string& name) {
  static void* const self = [] {
    Dl_info info;
    return dladdr(reinterpret_cast<void*>(driver_entry), &info) ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
  }();
  return name.rfind("cu", 0) == 0 ? dlsym(self, name.c_str()) : nullptr;
}

}  // namespace

void make_current(int device) {
  set_current_device(device);
  t_has_context = true;
  active[device] = true;
}

bool primary_active(int device) { return active[device]; }
bool has_context() { return t_has_context; }
void drop_context() { t_has_context = false; }

Error enable_peer(int device, int peer) {
  if (!device_exists(peer)) return kInvalidDevice;
  if (device == peer || !settings().peer) return kPeerAccessUnsupported;
  const std::lock_guard<std::mutex> guard(peers_lock);
  return peers().insert({device, peer}).second ? kSuccess : kPeerAccessAlreadyEnabled;
}

Error disable_peer(int device, int peer) {
  if (!device_exists(peer)) return kInvalidDevice;
  const std::lock_guard<std::mutex> guard(peers_lock);
  return peers().erase({device, peer}) ? kSuccess : kPeerAccessNotEnabled;
}

void* driver_entry(const char* name) {
  for (const char* version : {"_v2", "", "_v3", "_v4"})
    if (void* found = own_symbol(std::string(name) + version))
      if (implemented(std::string(name) + version)) return found;
  return own_symbol(name);  // one that says by name that it is missing, or nothing, as a driver that is older
}

}  // namespace fakecard
