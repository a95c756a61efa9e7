// From a boxed call by way of TensorIterator to a launch.
#include "aten/pointwise.h"

#include <c10/core/DeviceGuard.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <array>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "common/scalar_kind.h"
#include "kernels/pointwise.cuh"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

// In the order of ScalarKind
struct Dtype {
  const char* of_device;
  bool embedded;
};
constexpr std::array<Dtype, kScalarKinds> kDtypes{{{"float", true},
                                                   {"double", false},
                                                   {"f16", true},
                                                   {"bf16", true},
                                                   {"unsigned char", false},
                                                   {"signed char", false},
                                                   {"short", false},
                                                   {"int", false},
                                                   {"long long", true},
                                                   {"bool", true},
                                                   {"c64", true}}};

constexpr unsigned bit(ScalarKind kind) { return 1u << static_cast<int>(kind); }

// The sets of kernels/pointwise_ops.cuh
constexpr unsigned F32 = bit(ScalarKind::kFloat), C64 = bit(ScalarKind::kComplexFloat), kBoolean = bit(ScalarKind::kBool);
constexpr unsigned FLOATS = F32 | bit(ScalarKind::kDouble) | bit(ScalarKind::kHalf) | bit(ScalarKind::kBFloat16);
constexpr unsigned INTS =
    bit(ScalarKind::kByte) | bit(ScalarKind::kChar) | bit(ScalarKind::kShort) | bit(ScalarKind::kInt) | bit(ScalarKind::kLong);
constexpr unsigned FLOATS_C = FLOATS | C64, INTS_B = INTS | kBoolean, REALS = FLOATS | INTS, REALS_B = REALS | kBoolean,
                   NUMBERS = REALS | C64, ALL = NUMBERS | kBoolean;

struct Line {
  const char* name;
  unsigned dtypes;
  int operands;
  std::string_view result;
};
#define BC_POINTWISE(name, dtypes, operands, result, ...) {#name, dtypes, operands, #result},
constexpr Line kLines[] = {
#include "kernels/pointwise_ops.cuh"
};
#undef BC_POINTWISE
constexpr size_t kLineCount = std::size(kLines);

using KernelsOfLine = std::array<std::unique_ptr<runtime::Kernel>, kDtypes.size()>;

std::array<KernelsOfLine, kLineCount>& all_kernels() {
  static auto* const made = [] {
    auto* all = new std::array<KernelsOfLine, kLineCount>;
    for (size_t i = 0; i < kLineCount; ++i) {
      for (size_t k = 0; k < kDtypes.size(); ++k) {
        const auto kind = static_cast<ScalarKind>(k);
        if (!(kLines[i].dtypes & bit(kind))) continue;
        const Dtype& dtype = kDtypes[k];
        const std::string op = kLines[i].name, name = "compat_pointwise_" + op + "_" + name_of(kind);
        runtime::add_kernel("pointwise",
                            "BC_ENTRY(" + name + ", 256, PointwiseParams, pointwise<" + op + "_op<" + dtype.of_device + ">>)",
                            dtype.embedded);
        (*all)[i][k] = std::make_unique<runtime::Kernel>(name);
      }
    }
    return all;
  }();
  return *made;
}

ScalarKind result_kind(const Line& line, ScalarKind computed) {
  return line.result == "S"       ? computed
         : line.result == "bool"  ? ScalarKind::kBool
         : line.result == "float" ? ScalarKind::kFloat
                                  : ScalarKind::kComplexFloat;
}

PointwiseScalar number(const c10::Scalar& value) {
  if (value.isComplex()) {
    const auto z = value.toComplexDouble();
    return {z.real(), z.imag(), static_cast<int64_t>(z.real())};
  }
  if (value.isFloatingPoint()) {
    const double real = value.toDouble();
    const bool fits = real > -9.2e18 && real < 9.2e18;
    return {real, 0, fits ? static_cast<int64_t>(real) : 0};
  }
  return {value.toDouble(), 0, value.toLong()};
}

// A tensor of the CPU with one value
PointwiseScalar number(const at::TensorBase& t) {
  if (t.scalar_type() == at::kDouble) return number(*static_cast<const double*>(t.const_data_ptr()));
  if (t.scalar_type() == at::kLong) return number(*static_cast<const int64_t*>(t.const_data_ptr()));
  return number(Tensor(t).item());
}

// Whether vectors of an operand can be read, or of the result written
bool is_packed(const PointwiseParams& p, int k, ScalarKind computed, ScalarKind result, int64_t element, int64_t width) {
  const ScalarKind kind = p.kind[k];
  if (k == 0) {
    if (kind != result && !(pointwise_casts(kind) && pointwise_casts(result))) return false;
  } else if (kind != computed && kind != ScalarKind::kBool && !(pointwise_widens(computed) && pointwise_casts(kind))) {
    return false;
  }
  if (p.dims == 0 || (k > 0 && p.stride[k][0] == 0)) return true;
  const int64_t alignment = std::min<int64_t>(kPointwiseAlignment, element * width);
  bool packed = p.stride[k][0] == element && reinterpret_cast<uintptr_t>(p.data[k]) % alignment == 0;
  for (int d = 1; d < p.dims; ++d) packed = packed && p.stride[k][d] % alignment == 0;
  return packed;
}

// Parameters, but for the numbers. False where the kernel cannot walk over the operands.
bool lay_out(const at::TensorIteratorBase& iter, const Line& line, ScalarKind computed, int width, PointwiseParams& p) {
  if (iter.ndim() > kMostPointwiseDims) return false;
  p.size = static_cast<int>(iter.numel()), p.dims = iter.ndim();
  p.packs = p.dims <= 1 || iter.shape()[0] % width == 0;
  for (int k = 0; k <= line.operands; ++k) {
    if (k > 0 && iter.is_cpu_scalar(k)) {
      p.immediate[k - 1] = number(iter.tensor_base(k));
      continue;
    }
    const auto kind = scalar_kind(iter.dtype(k));
    if (!kind) return false;
    p.kind[k] = *kind;
    p.data[k] = iter.data_ptr(k);
    for (int d = 0; d < p.dims; ++d) p.stride[k][d] = static_cast<int>(iter.strides(k)[d]);
    p.packs = p.packs && is_packed(p, k, computed, result_kind(line, computed), iter.element_size(k), width);
  }
  for (int d = 0; d < p.dims; ++d) {
    p.extent[d] = static_cast<int>(iter.shape()[d]) / (p.packs && d == 0 && p.dims > 1 ? width : 1);
    p.by_extent[d] = divisor_of(static_cast<unsigned>(p.extent[d]));
  }
  return true;
}

// Where the tensors, numbers and results of an op stand among its arguments.
struct Places {
  c10::SmallVector<size_t, 4> inputs, numbers;
  size_t count = 0;
  bool in_place = false, out = false;
};

Places places_of(const c10::FunctionSchema& schema) {
  Places places;
  places.count = schema.arguments().size();
  for (size_t i = 0; i < places.count; ++i) {
    const c10::Argument& argument = schema.arguments()[i];
    const auto kind = argument.type()->kind();
    if (argument.is_out()) {
      places.out = true;
    } else if (kind == c10::TypeKind::TensorType) {
      places.in_place = places.in_place || (argument.alias_info() && argument.alias_info()->isWrite());
      places.inputs.push_back(i);
    } else if (kind == c10::TypeKind::NumberType || kind == c10::TypeKind::FloatType) {
      places.numbers.push_back(i);
    }
  }
  return places;
}

at::TensorIterator iterator(PointwiseCall& call) {
  if (call.form == PointwiseForm::kComparison) return at::TensorIterator::comparison_op(call.out, call.inputs[0], call.inputs[1]);
  at::TensorIteratorConfig config;
  config.add_output(call.out);
  for (const Tensor& input : call.inputs) config.add_const_input(input);
  if (call.form == PointwiseForm::kSame) return config.build();
  if (call.form == PointwiseForm::kMade) return config.check_all_same_dtype(false).declare_static_dtype(call.made).build();
  return config.allow_cpu_scalars(true)
      .promote_inputs_to_common_dtype(true)
      .promote_integer_inputs_to_float(call.form == PointwiseForm::kFloat)
      .cast_common_dtype_to_outputs(true)
      .enforce_safe_casting_to_output(true)
      .build();
}

struct PointwiseOp {
  PointwiseForm form;
  const PointwiseKernels* kernels;
  PointwiseChoice choice;

  bool operator()(const Places& places, Stack* stack) const {
    PointwiseCall call{form, at::kBool, torch::jit::last(*stack, places.count), {}, {}, {}};
    for (const size_t i : places.inputs) {
      const Tensor& input = call.arguments[i].toTensor();
      if (!input.defined() || input.layout() != c10::kStrided) return false;
      call.inputs.push_back(input);
    }
    for (const size_t i : places.numbers) {
      if (!call.arguments[i].isNone()) call.numbers.push_back(call.arguments[i].toScalar());
    }
    if (places.in_place) call.out = call.inputs[0];
    if (places.out) call.out = call.arguments.back().toTensor();
    const PointwiseKernels* const chosen = choice ? choice(call) : kernels;
    if (!chosen) return false;
    auto iter = iterator(call);
    const auto dtype = iter.common_dtype() == at::ScalarType::Undefined ? iter.dtype(1) : iter.common_dtype();
    if (!compute_pointwise(iter, *chosen, dtype, call.numbers)) return false;
    Tensor result = call.out.defined() ? call.out : Tensor(iter.output_base(0));
    torch::jit::drop(*stack, places.count);
    stack->emplace_back(std::move(result));
    return true;
  }
};

bool same_arguments(const c10::FunctionSchema& plain, const c10::FunctionSchema& other) {
  if (plain.arguments().size() + (other.arguments().back().is_out() ? 1 : 0) != other.arguments().size()) return false;
  for (size_t i = 0; i < plain.arguments().size(); ++i) {
    if (*plain.arguments()[i].type() != *other.arguments()[i].type()) return false;
  }
  return true;
}

// Of aten::`op`, its in-place form and that with out=, whose overloads follow no one rule.
void add(const std::string& op, const PointwiseOp& computes) {
  const size_t dot = op.find('.');
  const std::string name = "aten::" + op.substr(0, dot);
  const auto plain = c10::Dispatcher::singleton().findSchema({name, dot == std::string::npos ? "" : op.substr(dot + 1)});
  if (!plain) return;  // this torch has none
  for (const std::string& of : {name, name + "_"}) {
    for (const auto& form : torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString(of))) {
      const c10::FunctionSchema& schema = form->schema();
      const bool out = schema.arguments().back().is_out(), in_place = of != name;
      const bool itself = schema.operator_name() == plain->operator_name();
      if (!itself && !((out || in_place) && same_arguments(plain->schema(), schema))) continue;
      const std::string full = of + (schema.overload_name().empty() ? "" : "." + schema.overload_name());
      OwnKernel(full, [places = places_of(schema), computes](const auto&, Stack* stack) { return computes(places, stack); });
    }
  }
}

}  // namespace

const PointwiseKernels& pointwise_kernels(const std::string& name) {
  static const auto* const all = [] {
    all_kernels();
    auto* made = new std::map<std::string, PointwiseKernels>;
    for (size_t i = 0; i < kLineCount; ++i) made->emplace(kLines[i].name, PointwiseKernels{i});
    return made;
  }();
  return all->at(name);
}

bool compute_pointwise(at::TensorIteratorBase& iter, const PointwiseKernels& kernels, at::ScalarType dtype,
                       at::ArrayRef<c10::Scalar> numbers) {
  const auto computed = scalar_kind(dtype);
  runtime::Kernel* const kernel = computed ? all_kernels()[kernels.line][static_cast<size_t>(*computed)].get() : nullptr;
  if (!kernel || iter.device_type(0) != c10::kCUDA || numbers.size() > kMostPointwiseScalars) return false;
  if (iter.numel() == 0) return true;
  if (!iter.can_use_32bit_indexing()) {
    if (iter.ndim() > kMostPointwiseDims) return false;
    for (auto& part : iter.with_32bit_indexing()) compute_pointwise(part, kernels, dtype, numbers);
    return true;
  }
  PointwiseParams p{};
  const int width = pointwise_width(static_cast<int>(c10::elementSize(dtype)));
  if (!lay_out(iter, kLines[kernels.line], *computed, width, p)) return false;
  for (size_t i = 0; i < numbers.size(); ++i) p.scalar[i] = number(numbers[i]);
  const int64_t of_thread = p.packs ? pointwise_vectors(kLines[kernels.line].operands) * width : kPointwiseElements;
  const c10::Device device = iter.device(0);
  const c10::DeviceGuard guard(device);
  kernel->launch(device, {ceil_div(p.size, of_thread * kPointwiseThreads), kPointwiseThreads, 0}, &p);
  return true;
}

void add_pointwise(const std::string& op, PointwiseForm form, const std::string& kernels) {
  add(op, {form, &pointwise_kernels(kernels), nullptr});
}

void add_pointwise(const std::string& op, PointwiseForm form, PointwiseChoice choice) { add(op, {form, nullptr, choice}); }

}  // namespace blackwell_compat
