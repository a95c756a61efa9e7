// What this CPU computes in, and scratch memory.
#pragma once
#include <ATen/ATen.h>

#include <optional>

namespace blackwell_compat {

// The dtype that this CPU computes `dtype` in at full speed: itself, or float32. Not set for dtypes left to ATen.
std::optional<at::ScalarType> compute_dtype(at::ScalarType dtype);

// The instruction set that our own kernels use here. BLACKWELL_COMPAT_CPU_ISA (avx512, avx2, generic) names a lower one.
enum class Isa { kGeneric, kAvx2, kAvx512 };
Isa cpu_isa();
const char* cpu_isa_name();  // as the variable spells it

// The calling thread's scratch buffer number `slot`, at least `bytes` long; it grows and stays.
enum Scratch : int { kOneDnn, kGathered, kConverted, kScattered, kPlanes, kProducts, kFrames, kScratchSlots };
float* scratch(Scratch slot, size_t bytes);

}  // namespace blackwell_compat
