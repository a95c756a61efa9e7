// Random numbers of a card, drawn on the host.
#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

namespace blackwell_compat::fallback {

// Where a generator of a card stood before `numbers` (a multiple of 4) were taken from each of its sequences.
struct Place {
  uint64_t seed, offset;
};
Place advance(const at::Generator& generator, uint64_t numbers);

// `given`, or the device's default generator where that is None.
at::Generator generator_of(const c10::IValue& given, c10::Device device);

// The host generator for one call: seeded from the seed and offset of `given`, or of the device's default generator where that
// is None, whose offset advances. So torch.cuda.manual_seed rules, and the state saved and restored is the device's.
c10::IValue host_generator(const c10::IValue& given, c10::Device device);

}  // namespace blackwell_compat::fallback
