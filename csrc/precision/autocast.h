// What the precision policy adds to PyTorch's autocast lists: ops that PyTorch casts on one kind of device alone, or on none.
#pragma once
#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

#include <string>
#include <vector>

namespace blackwell_compat::precision {

enum class Cast {
  kLow,      // floating-point arguments to the autocast dtype
  kFull,     // to float32, unless the call names a dtype
  kPromote,  // to the widest among them
};

struct Rule {
  std::string op;
  Cast cast;
};

// By PyTorch's names without "aten::". What PyTorch casts on a device itself is left to it there.
std::vector<Rule> rules(c10::DeviceType device);

// What this thread computes in until the block ends, which may be float32; blocks nest. Both devices are set, so that what
// torch.compile has made inside of torch.autocast, for one of them, is not taken for a block of ours.
void enter(at::ScalarType cpu, at::ScalarType cuda);
void leave();
bool is_active();

}  // namespace blackwell_compat::precision
