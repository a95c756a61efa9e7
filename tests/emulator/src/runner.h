// One OS thread's emulator: the block that runs, its threads, its shared memory.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "emulator/core.h"
#include "fiber.h"

namespace emulator {

constexpr unsigned kLanes = 32, kMaxThreads = 1024;
constexpr size_t kMaxShared = 256 << 10;

// Memory that a kernel may touch
struct Range {
  const unsigned char* begin;
  size_t bytes;
};

struct Launch {
  const Kernel* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  const void* parameters;
  std::vector<Range> buffers;
  bool knows_buffers;  // all that it may touch; not under the fake card
};

struct AsyncCopy {
  unsigned char* shared;
  const unsigned char* global;
  bool valid;
  unsigned group;
};

struct Thread {
  Place place;  // first, so that emulator::place is also the thread
  void* stack;
  // While it waits:
  const char* name;
  Where where;
  unsigned mask;
  void* brought;
  // cp.async: copies not there yet, and how many groups were committed
  std::vector<AsyncCopy> copies;
  unsigned groups;
  bool at_barrier, returned;

  unsigned warp() const { return place.flat / kLanes; }
};

struct Warp {
  unsigned present, ready, meeting, returned;  // masks of lanes
};

// A text with the addresses of code, which describe() turns into lines of source
std::string at_code(const void* return_address);
std::string described(const std::string& text);

std::string printed(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string text_of(const Thread& thread);  // "thread (1,0,0)"
std::string text_of(const char* name, const Where& where);

class Runner;
// This OS thread's, where it launched something
extern __thread Runner* running;

class Runner {
 public:
  static Runner& of_this_thread();
  Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner();

  // What went wrong; empty: nothing
  std::string run(const Launch& launch);

  int barrier(const char* name, int brought, Where where);
  void meet(const char* name, unsigned mask, void* brought, Work work, Where where);
  [[noreturn]] void fail(const std::string& text);
  // From a signal handler, on whatever stack
  [[noreturn]] void crash(int signal, const void* address, const void* code);

  Thread& current() const { return *current_; }
  const Launch& launch() const { return *launch_; }
  bool in_kernel() const { return in_kernel_; }
  const Stacks& stacks() const { return stacks_; }
  bool in_shared(const void* address, size_t bytes) const;
  bool near_shared(const void* address) const { return address >= shared_map_ && address < shared_map_ + kSharedMapBytes; }
  size_t shared_offset(const void* address) const {
    return static_cast<size_t>(static_cast<const unsigned char*>(address) - current_->place.shared);
  }
  // "at 0x7f.., 4 bytes past the end of a buffer of 400"
  std::string text_of_address(const void* address) const;

 private:
  static constexpr size_t kGuardBytes = 64 << 10, kSharedMapBytes = kMaxShared + 2 * kGuardBytes;
  static void thread_entry();
  void run_block(uint3 index);
  [[noreturn]] void thread_returns();
  void run_next();
  [[noreturn]] void leave();
  [[noreturn]] void stuck();
  std::string text_of_crash() const;

  const Launch* launch_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Stacks stacks_;
  unsigned char* shared_map_;
  std::unique_ptr<unsigned char[]> signal_stack_;
  void* main_stack_ = nullptr;
  Thread* current_ = nullptr;
  unsigned total_ = 0, returned_ = 0;
  // The barrier that threads wait at
  Thread* first_ = nullptr;
  unsigned arrived_ = 0;
  int brought_ = 0, result_ = 0;
  bool in_kernel_ = false;
  std::string error_;
  struct {
    int signal;
    const void *address, *code;
  } crash_ = {};
};

// What the checked build notes of shared memory (check.cpp)
namespace checks {
#ifdef EMULATOR_CHECKED
void begin_launch(const Launch& launch, const std::vector<Thread>& threads);
void begin_block();
void passed_barrier();
void passed_meeting(unsigned warp, unsigned mask);
void copy_issued(const AsyncCopy& copy, const void* code);
void copy_landed(const AsyncCopy& copy);
#else
inline void begin_launch(const Launch&, const std::vector<Thread>&) {}
inline void begin_block() {}
inline void passed_barrier() {}
inline void passed_meeting(unsigned, unsigned) {}
inline void copy_issued(const AsyncCopy&, const void*) {}
inline void copy_landed(const AsyncCopy&) {}
#endif
}  // namespace checks

}  // namespace emulator
