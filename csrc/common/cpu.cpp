// The instruction set of this machine, and scratch memory of each thread.
#include "common/cpu.h"

#include <array>
#include <cstdlib>
#include <string>

namespace blackwell_compat {
namespace {

Isa choose_isa() {
#if defined(__x86_64__)
  const char* text = std::getenv("BLACKWELL_COMPAT_CPU_ISA");
  const std::string wanted = text ? text : "avx512";
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
  if (avx512 && wanted == "avx512") return Isa::kAvx512;
  if (avx2 && wanted != "generic") return Isa::kAvx2;
#endif
  return Isa::kGeneric;
}

}  // namespace

Isa cpu_isa() {
  static const Isa chosen = choose_isa();
  return chosen;
}

const char* cpu_isa_name() {
  const Isa isa = cpu_isa();
  return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "generic";
}

float* scratch(Scratch slot, size_t bytes) {
  thread_local std::array<at::Tensor, kScratchSlots> buffers;
  at::Tensor& buffer = buffers.at(slot);
  if (!buffer.defined() || buffer.nbytes() < bytes) {
    const auto count = static_cast<int64_t>((bytes + 4095) / 4096 * 1024);
    buffer = at::detail::empty_cpu({count}, at::kFloat, false);
  }
  return static_cast<float*>(buffer.data_ptr());
}

}  // namespace blackwell_compat
