// Totals under a lock; what a thread does at the moment in a variable of its own.
#include "fallback/counters.h"

#include <chrono>
#include <mutex>

namespace blackwell_compat::fallback {
namespace {

thread_local Counting* current = nullptr;

std::mutex mutex;
std::map<std::string, Counts> totals;

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Counting::Counting(const std::string& op) : op_(op), outer_(current), started_(now()) { current = this; }

Counting::~Counting() {
  current = outer_;
  const Counts mine = elapsed();
  const std::lock_guard<std::mutex> lock(mutex);
  Counts& total = totals[op_];
  total.calls += 1;
  total.nanoseconds += mine.nanoseconds;
  total.to_host += mine.to_host;
  total.to_host_bytes += mine.to_host_bytes;
  total.to_device += mine.to_device;
  total.to_device_bytes += mine.to_device_bytes;
}

Counts Counting::elapsed() const {
  Counts mine = counts_;
  mine.nanoseconds = now() - started_;
  return mine;
}

void count_to_host(int64_t bytes) {
  if (!current) return;
  current->counts_.to_host += 1;
  current->counts_.to_host_bytes += bytes;
}

void count_to_device(int64_t bytes) {
  if (!current) return;
  current->counts_.to_device += 1;
  current->counts_.to_device_bytes += bytes;
}

bool is_counting() { return current != nullptr; }

std::map<std::string, Counts> counts() {
  const std::lock_guard<std::mutex> lock(mutex);
  return totals;
}

void reset_counts() {
  const std::lock_guard<std::mutex> lock(mutex);
  totals.clear();
}

}  // namespace blackwell_compat::fallback
