/* What an emulated kernel sees, and how the tests hand one in: fakecard_register_kernel("compat_gemm_f32", gemm). */
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct FakecardLaunch {
  const char* name;
  int device;
  unsigned grid[3], block[3];
  size_t shared_bytes;
  void** parameters; /* as cuLaunchKernel got them, but copies: every address of a card's memory inside them is one that may be
                        touched */
  const size_t* parameter_bytes;
  int parameter_count;
};

/* Runs at the launch's turn in its stream, on the stream's thread. Returns a CUresult: 0, or for example 700 */
typedef int (*FakecardKernel)(const struct FakecardLaunch*);

/* A kernel that a module loaded through the driver holds under this name runs `kernel` from now on; null: no longer */
void fakecard_register_kernel(const char* name, FakecardKernel kernel);

/* The address under which host code may touch a card's memory, for pointers that a kernel loads from memory */
void* fakecard_alias(const void* device_pointer);

#ifdef __cplusplus
}
#endif
