// Seeds of host generators.
#include "fallback/generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <mutex>

namespace blackwell_compat::fallback {
namespace {

constexpr uint64_t kStep = 4;  // offsets of CUDA generators are multiples of 4

// The finalizer of SplitMix64, which spreads neighbouring offsets over all seeds.
uint64_t mixed(uint64_t seed, uint64_t offset) {
  uint64_t x = seed + 0x9E3779B97F4A7C15ULL * (offset / kStep + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

c10::IValue host_generator(const c10::IValue& given, c10::Device device) {
  at::Generator generator = given.isNone() ? at::globalContext().defaultGenerator(device) : given.toGenerator();
  if (generator.device().is_cpu()) return generator;
  const std::lock_guard<std::mutex> lock(generator.mutex());
  const uint64_t offset = generator.get_offset();
  generator.set_offset(offset + kStep);
  return at::Generator(at::detail::createCPUGenerator(mixed(generator.current_seed(), offset)));
}

}  // namespace blackwell_compat::fallback
