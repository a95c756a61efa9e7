// Random numbers: the ones that PyTorch's kernels would draw on this card from the same generator, where they are drawn in the
// order of memory.
#include "kernels/random.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <torch/version.h>

#include <cmath>

#include "aten/cat.h"
#include "aten/results.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "fallback/generator.h"
#include "runtime/copy.h"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

constexpr bool kCountsByWidth = TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 6;  // how far a generator goes on
// From which range on integers take 64 bits
constexpr uint64_t kWideRange = uint64_t{1} << (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 7 ? 28 : 32);
constexpr bool kAnyIsWide = kWideRange < uint64_t{1} << 32;
constexpr int64_t kMostElements = std::numeric_limits<int>::max();

std::optional<Cell> cell_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return Cell::kFloat;
    case at::kDouble:
      return Cell::kDouble;
    case at::kHalf:
      return Cell::kHalf;
    case at::kBFloat16:
      return Cell::kBFloat16;
    case at::kByte:
      return Cell::kByte;
    case at::kChar:
      return Cell::kChar;
    case at::kShort:
      return Cell::kShort;
    case at::kInt:
      return Cell::kInt;
    case at::kLong:
      return Cell::kLong;
    case at::kBool:
      return Cell::kBool;
    default:
      return std::nullopt;
  }
}

// A generator of the card outside of graphs, which would replay the same numbers; none otherwise.
std::optional<at::Generator> generator_for(const IValue& given, c10::Device device) {
  if (runtime::is_capturing(device)) return std::nullopt;
  at::Generator generator = fallback::generator_of(given, device);
  const c10::Device of = generator.device();
  return of == device || (of.is_cuda() && !of.has_index()) ? std::optional<at::Generator>(generator) : std::nullopt;
}

int64_t blocks_of(int64_t elements, c10::Device device) {
  const runtime::DeviceInfo& card = runtime::device_info(device);
  const int64_t resident = card.multiprocessors * (card.threads_per_multiprocessor / kRandomThreads);
  return std::min(ceil_div(elements, kRandomThreads), resident);
}

// Numbers that each thread takes, in steps of four.
uint64_t numbers_of(int64_t elements, int64_t blocks, int64_t at_a_time) {
  return static_cast<uint64_t>(4 * ceil_div(elements, blocks * kRandomThreads * at_a_time));
}

// Fills in place where memory has no gaps, else by way of a tensor without.
bool draw(const Tensor& self, const IValue& given, RandomParams p) {
  const auto cell = cell_of(self.scalar_type());
  const auto generator = generator_for(given, self.device());
  if (!cell || !generator || self.layout() != c10::kStrided || self.numel() > kMostElements) return false;
  if (self.numel() == 0) return true;
  const c10::DeviceGuard guard(self.device());
  const bool dense = self.is_non_overlapping_and_dense();
  const Tensor target = dense ? self : at::empty(self.sizes(), self.options());
  const bool bits = p.drawn == Drawn::kBits, wide = bits ? p.wide : self.scalar_type() == at::kDouble;
  const int64_t blocks = blocks_of(self.numel(), self.device());
  const auto place = fallback::advance(*generator, numbers_of(self.numel(), blocks, kCountsByWidth && wide ? 2 : 4));
  p.to = target.mutable_data_ptr(), p.size = target.numel(), p.cell = *cell, p.seed = place.seed, p.offset = place.offset;
  const char* const name = bits ? "compat_random_bits" : wide ? "compat_random_f64" : "compat_random_f32";
  runtime::launch(name, self.device(), {blocks, kRandomThreads, 0}, &p);
  return dense || copy_on_card(self, target);
}

bool is_real(const Tensor& self) { return kernel_dtype(self.scalar_type()) != nullptr; }

double rounded(double value, at::ScalarType dtype) {
  return at::scalar_tensor(value, at::device(at::kCPU).dtype(dtype)).item<double>();
}

bool fill(Stack* stack, const RandomParams& p, size_t arguments) {
  const Tensor self = torch::jit::last(*stack, arguments)[0].toTensor();
  if (!draw(self, stack->back(), p)) return false;
  give(stack, arguments, {self});
  return true;
}

bool uniform(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const Tensor self = arguments[0].toTensor();
  const double from = arguments[1].toDouble(), to = arguments[2].toDouble();
  if (!is_real(self) || !std::isfinite(from) || !std::isfinite(to) || !(from <= to)) return false;
  const auto dtype = self.scalar_type();
  const double most = dtype == at::kHalf ? 65504 : dtype == at::kDouble ? std::numeric_limits<double>::max() : 3e38;
  if (to - from > most || std::abs(from) > most || std::abs(to) > most) return false;
  RandomParams p{};
  p.drawn = Drawn::kUniform, p.a = rounded(from, dtype), p.end = rounded(to, dtype), p.b = rounded(p.end - p.a, dtype);
  return fill(stack, p, 4);
}

// Of one or two arguments that `valid` says PyTorch would take.
template <Drawn drawn, size_t numbers, bool (*valid)(double, double), bool whole_too = false>
bool of_numbers(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, numbers + 2);
  RandomParams p{};
  p.drawn = drawn, p.a = arguments[1].toDouble(), p.b = numbers > 1 ? arguments[2].toDouble() : 0;
  if (!valid(p.a, p.b) || !(whole_too || is_real(arguments[0].toTensor()))) return false;
  return fill(stack, p, numbers + 2);
}

bool spread_is_valid(double, double deviation) { return deviation >= 0; }
bool rate_is_valid(double rate, double) { return rate > 0; }
bool positive_spread(double, double spread) { return spread > 0; }
bool is_chance(double chance, double) { return chance >= 0 && chance <= 1; }
bool inner_chance(double chance, double) { return chance > 0 && chance < 1; }

// Whole numbers up to this are all there in a dtype.
int64_t most_whole(at::ScalarType dtype) {
  switch (dtype) {
    case at::kHalf:
      return 1 << 11;
    case at::kBFloat16:
      return 1 << 8;
    case at::kFloat:
      return 1 << 24;
    case at::kDouble:
      return int64_t{1} << 53;
    case at::kBool:
      return 1;
    case at::kByte:
      return 255;
    case at::kLong:
      return std::numeric_limits<int64_t>::max();
    default:
      return (int64_t{1} << (8 * static_cast<int>(c10::elementSize(dtype)) - 1)) - 1;
  }
}

bool is_wide(at::ScalarType dtype, uint64_t range) {
  const bool ever = kAnyIsWide || dtype == at::kLong || dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16;
  return ever && range >= kWideRange;
}

bool between(Stack* stack, int64_t from, int64_t to, size_t arguments) {
  const Tensor self = torch::jit::last(*stack, arguments)[0].toTensor();
  const auto dtype = self.scalar_type();
  const int64_t most = most_whole(dtype), least = dtype == at::kBool || dtype == at::kByte ? 0 : -most;
  if (from >= to || from < least || to - 1 > most) return false;
  RandomParams p{};
  p.drawn = Drawn::kBits, p.range = static_cast<uint64_t>(to) - static_cast<uint64_t>(from), p.base = from;
  p.wide = is_wide(dtype, p.range);
  return fill(stack, p, arguments);
}

bool random_from(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  return !arguments[2].isNone() && between(stack, arguments[1].toInt(), arguments[2].toInt(), 4);
}

bool random_to(Stack* stack) { return between(stack, 0, torch::jit::last(*stack, 3)[1].toInt(), 3); }

bool random_all(Stack* stack) {
  const auto dtype = torch::jit::last(*stack, 2)[0].toTensor().scalar_type();
  RandomParams p{};
  p.drawn = Drawn::kBits, p.wide = dtype == at::kLong || dtype == at::kDouble;
  p.range = static_cast<uint64_t>(most_whole(dtype)) + 1;
  return fill(stack, p, 2);
}

bool bernoulli_of_tensor(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor self = arguments[0].toTensor(), given = arguments[1].toTensor();
  const auto cell = cell_of(self.scalar_type());
  const auto generator = generator_for(arguments[2], self.device());
  if (!cell || !generator || !is_real(given) || !at::is_expandable_to(given.sizes(), self.sizes()) || !self.is_contiguous() ||
      self.layout() != c10::kStrided || self.numel() > kMostElements) {
    return false;
  }
  if (self.numel() > 0) {
    const c10::DeviceGuard guard(self.device());
    const bool wide = self.scalar_type() == at::kDouble;
    const Tensor chances = packed(given.to(self.device(), wide ? at::kDouble : at::kFloat).expand(self.sizes()));
    const auto place = fallback::advance(*generator, 12);
    ChancesParams p{};
    p.to = self.mutable_data_ptr(), p.chances = chances.const_data_ptr(), p.size = self.numel(), p.cell = *cell;
    p.seed = place.seed, p.offset = place.offset;
    const char* const name = wide ? "compat_random_chances_f64" : "compat_random_chances_f32";
    runtime::launch(name, self.device(), {ceil_div(self.numel(), 4 * kRandomThreads), kRandomThreads, 0}, &p);
  }
  give(stack, 3, {self});
  return true;
}

bool bernoulli_out(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor self = arguments[0].toTensor();
  Tensor out = destination(op, *stack, self.sizes(), self.options());
  if (!out.defined()) return false;
  out.bernoulli_(self, arguments[1].toOptional<at::Generator>());
  give(op, stack, {out});
  return true;
}

// Sorts random keys, of so many bits that equal ones are not to be expected.
bool randperm(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const int64_t n = arguments[0].toInt();
  const Tensor out = arguments[2].toTensor();
  if (n < 0 || out.scalar_type() != at::kLong || out.layout() != c10::kStrided || !out.is_contiguous()) return false;
  Tensor keys = at::empty({n}, out.options());
  keys.random_(arguments[1].toOptional<at::Generator>());
  out.resize_({n});
  if (!copy_on_card(out, keys.argsort())) return false;
  give(op, stack, {out});
  return true;
}

// Elements that lie side by side for a thread of PyTorch's kernel: up to four, or from 2.7 on up to 16 bytes
int dropout_width(const Tensor& input) {
  if (!input.is_non_overlapping_and_dense()) return 1;
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(input.const_data_ptr()));
  const int64_t element = input.element_size();
  int64_t width = TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 7 ? 16 / element : 4;
  while (width > 1 && (address % (width * element) != 0 || input.numel() % width != 0)) width /= 2;
  return static_cast<int>(width);
}

bool dropout(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor input = arguments[0].toTensor();
  const double p = arguments[1].toDouble();
  const auto generator = generator_for({}, input.device());
  const bool training = arguments[2].isNone() || arguments[2].toBool();
  if (!training || !generator || !is_real(input) || !(p >= 0 && p < 1) || input.layout() != c10::kStrided ||
      input.numel() > kMostElements) {
    return false;
  }
  const c10::DeviceGuard guard(input.device());
  const int width = dropout_width(input);
  const Tensor out = at::empty_like(input), mask = at::empty_like(input, input.options().dtype(at::kBool));
  if (input.numel() > 0) {
    // What lies apart goes by index, else by the order of memory.
    const Tensor from = width > 1 ? input : packed(input);
    const Tensor to = width > 1 ? out : dense_for(out, out.scalar_type());
    const Tensor kept = width > 1 ? mask : dense_for(mask, at::kBool);
    DropoutParams q{};
    q.from = from.const_data_ptr(), q.to = to.mutable_data_ptr(), q.mask = static_cast<unsigned char*>(kept.mutable_data_ptr());
    q.size = input.numel(), q.wide_keep = 1 - p, q.keep = static_cast<float>(q.wide_keep);
    q.wide_scale = 1 / q.wide_keep, q.scale = 1.0f / q.keep;
    q.width = width;
    const int64_t blocks = blocks_of(q.size, input.device());
    const auto place = fallback::advance(*generator, numbers_of(q.size, blocks, 4));
    q.seed = place.seed, q.offset = place.offset;
    const std::string name = std::string("compat_random_dropout_") + kernel_dtype(out.scalar_type());
    runtime::launch(name, input.device(), {blocks, kRandomThreads, 0}, &q);
    finish(to, out), finish(kept, mask);
  }
  give(op, stack, {out, mask});
  return true;
}

// One token of each row, or several without putting back: the largest of probabilities over exponential numbers, which PyTorch
// does, too.
bool multinomial(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const int64_t samples = arguments[1].toInt();
  const bool replaces = arguments[2].toBool();
  if (!is_real(self) || self.dim() < 1 || self.dim() > 2 || samples < 1 || self.numel() == 0 || (replaces && samples > 1) ||
      samples > self.size(-1)) {
    return false;
  }
  const bool valid = self.max().isfinite().logical_and(self.min() >= 0).logical_and(self.sum(-1).min() > 0).item<bool>();
  if (!valid) return false;
  c10::DimVector sizes(self.sizes());
  sizes.back() = samples;
  const Tensor out = destination(op, *stack, sizes, self.options().dtype(at::kLong));
  if (!out.defined()) return false;
  const Tensor race = at::empty_like(self).exponential_(1, arguments[3].toOptional<at::Generator>());
  const Tensor ratio = at::div(self, race);
  const Tensor found = samples == 1 ? ratio.argmax(-1, true) : std::get<1>(ratio.topk(samples));
  if (!copy_on_card(out, found)) return false;
  give(op, stack, {out});
  return true;
}

const OwnKernel kernels[] = {
    {"aten::uniform_", uniform},
    {"aten::normal_", of_numbers<Drawn::kNormal, 2, spread_is_valid>},
    {"aten::log_normal_", of_numbers<Drawn::kLogNormal, 2, positive_spread>},
    {"aten::cauchy_", of_numbers<Drawn::kCauchy, 2, positive_spread>},
    {"aten::exponential_", of_numbers<Drawn::kExponential, 1, rate_is_valid>},
    {"aten::geometric_", of_numbers<Drawn::kGeometric, 1, inner_chance, true>},
    {"aten::bernoulli_.float", of_numbers<Drawn::kBernoulli, 1, is_chance, true>},
    {"aten::bernoulli_.Tensor", bernoulli_of_tensor},
    {"aten::bernoulli.out", bernoulli_out},
    {"aten::random_", random_all},
    {"aten::random_.from", random_from},
    {"aten::random_.to", random_to},
    {"aten::randperm.generator_out", randperm},
    {"aten::native_dropout", dropout},
    {"aten::multinomial", multinomial},
    {"aten::multinomial.out", multinomial},
};

}  // namespace
}  // namespace blackwell_compat
