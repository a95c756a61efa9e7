// The fastest of several ways to do one thing on a card, found by trial where BLACKWELL_COMPAT_AUTOTUNE=1.
#pragma once
#include <c10/core/Device.h>

#include <functional>
#include <string>

namespace blackwell_compat::runtime {

bool autotunes();

// A number under `count`. While a CUDA graph is captured 0, the way that is taken for the best without a trial; else `run` does
// the thing each way, and the fastest is kept on the disk with the card's name, for `key`: everything that it depends on.
int fastest(const std::string& key, int count, c10::Device device, const std::function<void(int)>& run);

}  // namespace blackwell_compat::runtime
