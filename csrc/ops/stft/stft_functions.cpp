// torch.stft by stft_fp32.
#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

using c10::IValue;
using torch::jit::Stack;

// In float32 and float64 both compute alike.
bool is_wide(const IValue& value) {
  return is_absent(value) || value.toTensor().scalar_type() == at::kFloat || value.toTensor().scalar_type() == at::kDouble;
}

// (self, n_fft, hop_length, win_length, window, [center, pad_mode,] normalized, onesided, return_complex, [align_to_window])
template <bool centred>
bool stft(Stack* stack) {
  static const size_t count =
      c10::Dispatcher::singleton().findSchemaOrThrow("aten::stft", centred ? "center" : "").schema().arguments().size();
  const auto given = torch::jit::last(*stack, count);
  if (!is_wide(given[0]) || !is_wide(given[4])) return false;
  Stack arguments = given.vec();
  if (!centred) arguments.insert(arguments.begin() + 5, {false, "reflect"});
  static const auto op = own_op("stft_fp32");
  pass_on(stack, count, op, std::move(arguments));
  return true;
}

const OwnKernel function{"aten::stft", stft<false>}, with_centre{"aten::stft.center", stft<true>};

}  // namespace
}  // namespace blackwell_compat
