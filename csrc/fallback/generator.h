// Random numbers of a card, drawn on the host.
#pragma once
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

namespace blackwell_compat::fallback {

// The host generator for one call: seeded from the seed and offset of `given`, or of the device's default generator where that
// is None, whose offset advances. So torch.cuda.manual_seed rules, and the state saved and restored is the device's.
c10::IValue host_generator(const c10::IValue& given, c10::Device device);

}  // namespace blackwell_compat::fallback
