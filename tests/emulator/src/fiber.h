// Stacks, and the switch from one to another: a few registers, no system call.
#pragma once
#include <cstddef>
#include <vector>

namespace emulator {

// Saves where this stack stands in *from and goes on where `to` stands
extern "C" void emulator_switch(void** from, void* to);

class Stacks {
 public:
  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks();
  // Stack number `index`, ready to run `entry`, which must not return
  void* prepare(size_t index, void (*entry)());
  bool is_guard(const void* address) const;
  // Whether the address is on a stack of this OS thread's fibers
  bool contains(const void* address) const;

 private:
  std::vector<unsigned char*> slabs_;
};

}  // namespace emulator
