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

Place advance(const at::Generator& generator, uint64_t numbers) {
  auto advanced = generator;
  const std::lock_guard<std::mutex> lock(advanced.mutex());
  const Place place{advanced.current_seed(), advanced.get_offset()};
  advanced.set_offset(place.offset + numbers);
  return place;
}

at::Generator generator_of(const c10::IValue& given, c10::Device device) {
  return given.isNone() ? at::globalContext().defaultGenerator(device) : given.toGenerator();
}

c10::IValue host_generator(const c10::IValue& given, c10::Device device) {
  const at::Generator generator = generator_of(given, device);
  if (generator.device().is_cpu()) return generator;
  const Place place = advance(generator, kStep);
  return at::Generator(at::detail::createCPUGenerator(mixed(place.seed, place.offset)));
}

}  // namespace blackwell_compat::fallback
