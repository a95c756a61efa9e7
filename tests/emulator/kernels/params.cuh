#pragma once
#include "kernels/platform.cuh"

namespace blackwell_compat {

struct TestParams {
  const void* x;
  void* y;
  int n;
};

}  // namespace blackwell_compat

#define TEST_KERNEL(name)                                                           \
  namespace blackwell_compat {                                                      \
  __device__ void name##_body(const TestParams& p);                                 \
  }                                                                                 \
  BC_ENTRY(name, 1024, blackwell_compat::TestParams, blackwell_compat::name##_body) \
  __device__ void blackwell_compat::name##_body([[maybe_unused]] const blackwell_compat::TestParams& p)
