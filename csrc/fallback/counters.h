// What fell back, how often, for how long, and what it moved.
#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace blackwell_compat::fallback {

struct Counts {
  int64_t calls = 0, nanoseconds = 0;
  int64_t to_host = 0, to_host_bytes = 0, to_device = 0, to_device_bytes = 0;  // copies, bytes
};

// Counts what the calling thread moves, for a scope, under the name of an op.
class Counting {
 public:
  explicit Counting(const std::string& op);
  ~Counting();
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  Counts elapsed() const;

 private:
  const std::string& op_;
  Counts counts_;
  Counting* const outer_;
  const int64_t started_;

  friend void count_to_host(int64_t bytes);
  friend void count_to_device(int64_t bytes);
};

void count_to_host(int64_t bytes);
void count_to_device(int64_t bytes);

// Whether the calling thread is inside a Counting.
bool is_counting();

std::map<std::string, Counts> counts();
void reset_counts();

}  // namespace blackwell_compat::fallback
