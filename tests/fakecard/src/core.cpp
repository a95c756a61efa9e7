// Errors, counters and faults.
#include "core.h"

#include <pthread.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <vector>

#include "card.h"

namespace fakecard {
namespace {

struct Fault {
  std::string what, detail;
  int skip, times;  // calls to let pass, then calls to fail
  Error error;
};

struct State {
  std::mutex lock;
  std::map<Tally, std::map<std::string, long>> tallies;
  std::vector<Fault> faults;
  std::map<int, Error> poisoned;
  std::set<std::string> said;
};
State& state() {
  static State& it = *new State;  // never destroyed: worker threads outlive main
  return it;
}

const char* const kCountNames[] = {"h2d",         "h2d_bytes",    "d2h",         "d2h_bytes",   "d2d",
                                   "d2d_bytes",   "p2p",          "p2p_bytes",   "h2h",         "h2h_bytes",
                                   "memset",      "memset_bytes", "allocation",  "free",        "host_allocation",
                                   "stream_sync", "event_sync",   "device_sync", "graph_launch"};
static_assert(sizeof(kCountNames) / sizeof(*kCountNames) == kCounts, "one name each");
std::atomic<long> counts[kCounts];
std::atomic<bool> any_fault{false}, any_poison{false};
std::atomic<bool> used{false}, inherited{false};  // inherited: a fork of a process that had used its cards
thread_local Error t_last_error = kSuccess;
thread_local int t_device = 0;
thread_local std::string t_not_emulated;

void first_use() {
  if (used.exchange(true)) return;
  pthread_atfork(nullptr, nullptr, [] { inherited = true; });
}

bool sticky(Error error) {
  return (error >= 700 && error < 800) && error != kPeerAccessAlreadyEnabled && error != kPeerAccessNotEnabled &&
         error != kAlreadyRegistered && error != kNotRegistered;
}

std::string json(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

thread_local bool in_host_callback = false;

const char* describe(int error) {
  return error == kNotEmulated && !t_not_emulated.empty() ? t_not_emulated.c_str() : text_of(error).text;
}
void set_not_emulated(const std::string& kernel) { t_not_emulated = text_of(kNotEmulated).text + (": " + kernel); }
Error& last_error() { return t_last_error; }
int current_device() { return t_device; }
void set_current_device(int device) { t_device = device; }

void poison(int device, Error error) {
  if (!sticky(error)) return;
  const std::lock_guard<std::mutex> guard(state().lock);
  state().poisoned.emplace(device, error);  // the first error stays
  any_poison = true;
}

Error poisoned(int device) {
  if (!any_poison) return kSuccess;
  const std::lock_guard<std::mutex> guard(state().lock);
  const auto it = state().poisoned.find(device);
  return it == state().poisoned.end() ? kSuccess : it->second;
}

void count(Count what, size_t by) { counts[what] += static_cast<long>(by); }

void tally(Tally what, const std::string& name) {
  const std::lock_guard<std::mutex> guard(state().lock);
  ++state().tallies[what][name];
}

Error fault(const char* what, const std::string& detail) {
  if (!any_fault) return kSuccess;
  const std::lock_guard<std::mutex> guard(state().lock);
  for (Fault& it : state().faults) {
    if (it.what != what || detail.find(it.detail) == std::string::npos || it.times == 0) continue;
    if (it.skip > 0) {
      --it.skip;
      continue;
    }
    --it.times;
    return it.error;
  }
  return kSuccess;
}

Error not_implemented(const char* name) {
  tally(Tally::kNotImplemented, name);
  const std::lock_guard<std::mutex> guard(state().lock);
  if (state().said.insert(name).second)
    fprintf(stderr, "fakecard: %s is not implemented (tests/fakecard/README.md says how to add it)\n", name);
  if (strstr(name, "cuda")) last_error() = kNotSupported;  // the driver leaves the runtime's error alone
  return kNotSupported;
}

Error enter(const char* call, Entry entry) {
  first_use();
  if (inherited) return kInitializationError;
  if (const Error wanted = fault(call)) {
    poison(t_device, wanted);
    return wanted;
  }
  if (entry == kWithoutContext) return kSuccess;
  if (in_host_callback) return kNotPermitted;
  if (cards().empty()) return kNoDevice;
  return poisoned(t_device);
}

std::string counters_as_json() {
  std::ostringstream out;
  out << "{";
  for (int i = 0; i < kCounts; ++i) out << json(kCountNames[i]) << ": " << counts[i] << ", ";
  const std::pair<const char*, Tally> tables[] = {{"launched", Tally::kLaunched},
                                                  {"refused", Tally::kRefused},
                                                  {"not_emulated", Tally::kNotEmulated},
                                                  {"queried", Tally::kQueried},
                                                  {"not_implemented", Tally::kNotImplemented}};
  const std::lock_guard<std::mutex> guard(state().lock);
  const char* between = "";
  for (const auto& [name, which] : tables) {
    out << between << json(name) << ": {";
    between = "";
    for (const auto& [key, count] : state().tallies[which]) {
      out << between << json(key) << ": " << count;
      between = ", ";
    }
    out << "}";
    between = ", ";
  }
  out << "}";
  return out.str();
}

void forget() {
  const std::lock_guard<std::mutex> guard(state().lock);
  for (std::atomic<long>& it : counts) it = 0;
  state().tallies.clear();
  state().faults.clear();
  state().poisoned.clear();
  any_fault = any_poison = false;
  last_error() = kSuccess;
}

void add_fault(const char* what, const char* detail, int skip, int times, Error error) {
  const std::lock_guard<std::mutex> guard(state().lock);
  state().faults.push_back({what, detail, skip, times, error});
  any_fault = true;
}

}  // namespace fakecard
