// Stacks, and the switch from one to another: a few registers, no system call.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

// Saves where this stack stands in *from and goes on where `to` stands
extern "C" void emulator_switch(void** from, void* to);

constexpr size_t kStackBytes = 256 << 10;  // and at a multiple of it

class Stacks {
 public:
  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks();
  // Stack number `index`, ready to run `entry`, which must not return
  void* prepare(size_t index, void (*entry)());
  bool is_guard(const void* address) const;
  // Whether two addresses, one of which is on a stack, are on the same stack
  static bool same(const void* a, const void* b) {
    return (reinterpret_cast<uintptr_t>(a) ^ reinterpret_cast<uintptr_t>(b)) < kStackBytes;
  }

 private:
  std::vector<unsigned char*> slabs_;
};

}  // namespace emulator
