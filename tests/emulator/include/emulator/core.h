// What a kernel compiled by g++ knows of the emulator: where its thread is, and how threads wait for each other. No std header:
// kernels see the same names here as under NVRTC.
#pragma once
#include <stddef.h>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulator {

// A line of a kernel. As a default argument, here() is the line of the call
struct Where {
  const char* file;
  int line;
};
constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

struct Place {
  uint3 thread, block;
  dim3 block_size, grid;
  unsigned char* shared;
  unsigned lane, flat;  // in the warp; in the block
};
// Of the thread that runs. __thread: the compiler would ask at each use of a thread_local whether it is constructed
extern __thread const Place* place;

// Ends the launch with this error; `text` as for printf
[[noreturn]] void fail(const char* text, ...) __attribute__((format(printf, 1, 2)));

// __syncthreads and its relatives: how many threads of the block brought something other than 0
int barrier(const char* name, int brought, Where where);

// Until all lanes of `mask` are here; then the last of them runs `work` on what each brought (indexed by lane)
using Work = void (*)(void* const* brought, unsigned mask);
void meet(const char* name, unsigned mask, void* brought, Work work, Where where);

// Before a built-in touches memory where the compiler does not see it; `code`: the return address of the kernel's call
enum class Access { kRead, kWrite, kAtomic };
#ifdef EMULATOR_CHECKED
void check(const void* address, size_t bytes, Access access, const void* code);
#else
inline void check(const void*, size_t, Access, const void*) {}
#endif

void async_copy(void* shared, const void* global, bool valid, Where where);
void async_commit();
void async_wait(int pending);

enum class Half { kF16, kBf16 };
void load_matrices(unsigned* r, const void* row, bool transposed, Where where);
void multiply_16x8x16(Half type, float* d, const unsigned* a, const unsigned* b, Where where);
void multiply_16x8x8(float* d, const unsigned* a, const unsigned* b, Where where);
void multiply_8x8x4(float* d, const unsigned* a, const unsigned* b, Where where);

// A kernel that the library holds. BC_ENTRY makes one for each
struct Kernel {
  const char* name;
  unsigned max_threads;
  size_t parameter_bytes;
  void (*run)(const void* parameters);
  const Kernel* next;
  Kernel(const char* name, unsigned max_threads, size_t parameter_bytes, void (*run)(const void*));
};

}  // namespace emulator

#ifdef EMULATOR_CHECKED
#define EMULATOR_UNCHECKED __attribute__((no_sanitize_thread, noinline))  // what it touches is not the kernel's doing
#else
#define EMULATOR_UNCHECKED
#endif
