// Which of PyTorch's ops the kernels of kernels/pointwise_ops.cuh are.
#include <ATen/Dispatch.h>
#include <ATen/ScalarOps.h>
#include <ATen/ops/empty.h>

#include <optional>
#include <string>

#include "aten/pointwise.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using Form = PointwiseForm;
using Kernels = const PointwiseKernels*;

// A number as an operand: 0 dimensions, of the CPU, and it does not change the dtype of tensors.
Tensor wrapped(const c10::Scalar& value) {
  Tensor tensor = c10::scalar_to_tensor(value);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

bool integral(const PointwiseCall& call) {
  for (const Tensor& input : call.inputs) {
    if (!c10::isIntegralType(input.scalar_type(), true)) return false;
  }
  return true;
}

// add and sub: PyTorch refuses a number that the dtype does not hold
template <const char* name>
Kernels scaled(PointwiseCall& call) {
  const c10::Scalar& alpha = call.numbers[0];
  if (alpha.isComplex() || (!alpha.isIntegral(true) && integral(call))) return nullptr;
  if (alpha.isBoolean() && (call.inputs[0].scalar_type() != at::kBool || call.inputs[1].scalar_type() != at::kBool))
    return nullptr;
  static const Kernels kernels = &pointwise_kernels(name);
  return kernels;
}

// The numbers are operands behind the tensors
template <const char* name>
Kernels with_number(PointwiseCall& call) {
  call.inputs.push_back(wrapped(call.numbers[0]));
  call.numbers.clear();
  static const Kernels kernels = &pointwise_kernels(name);
  return kernels;
}

template <const char* name>
Kernels number_first(PointwiseCall& call) {
  call.inputs.insert(call.inputs.begin(), wrapped(call.numbers[0]));
  call.numbers.clear();
  static const Kernels kernels = &pointwise_kernels(name);
  return kernels;
}

constexpr char kAdd[] = "add", kSub[] = "sub", kPow[] = "pow", kRemainder[] = "remainder", kLerp[] = "lerp", kEq[] = "eq",
               kNe[] = "ne", kLt[] = "lt", kLe[] = "le", kGt[] = "gt", kGe[] = "ge", kXlogy[] = "xlogy",
               kShiftLeft[] = "shift_left", kShiftRight[] = "shift_right";

Kernels divided(PointwiseCall& call) {
  static const Kernels plain = &pointwise_kernels("div"), trunc = &pointwise_kernels("div_trunc"),
                       floor = &pointwise_kernels("div_floor");
  if (call.arguments[2].isNone()) {
    call.form = Form::kFloat;
    return plain;
  }
  const auto mode = call.arguments[2].toStringView();
  return mode == "trunc" ? trunc : mode == "floor" ? floor : nullptr;
}

// PyTorch refuses a negative power of integers
Kernels power(PointwiseCall& call) {
  const c10::Scalar exponent = call.numbers[0];
  if (integral(call) && (!exponent.isIntegral(true) || exponent.toLong() < 0)) {
    if (exponent.isIntegral(true)) return nullptr;
  }
  return with_number<kPow>(call);
}

Kernels clamped(Kernels both, Kernels below, Kernels above, const c10::IValue& low, const c10::IValue& high) {
  return !low.isNone() && !high.isNone() ? both : !low.isNone() ? below : !high.isNone() ? above : nullptr;
}

// clamp, clamp.Tensor, clamp_min, clamp_max
Kernels clamp(PointwiseCall& call) {
  static const Kernels both = &pointwise_kernels("clamp"), below = &pointwise_kernels("clamp_min"),
                       above = &pointwise_kernels("clamp_max");
  call.inputs.resize(1);
  call.numbers.clear();
  for (size_t i = 1; i <= 2; ++i) {
    const c10::IValue& bound = call.arguments[i];
    if (bound.isNone()) continue;
    if (bound.isTensor() && !bound.toTensor().defined()) return nullptr;
    call.inputs.push_back(bound.isTensor() ? bound.toTensor() : wrapped(bound.toScalar()));
    if (bound.isScalar() && bound.toScalar().isComplex()) return nullptr;
  }
  if (call.inputs.size() == 3 && call.arguments[1].isScalar()) {  // TensorIterator takes one number beside a card's tensors
    static const Kernels between = &pointwise_kernels("hardtanh");
    const auto low = call.arguments[1].toScalar(), high = call.arguments[2].toScalar();
    call.inputs.resize(1);
    if (integral(call) && !(low.isIntegral(false) && high.isIntegral(false))) return nullptr;
    call.form = Form::kSame;
    call.numbers = {low, high};
    return between;
  }
  return clamped(both, below, above, call.arguments[1], call.arguments[2]);
}

template <const char* name>
Kernels bounded(PointwiseCall& call) {
  static const Kernels kernels = &pointwise_kernels(name);
  if (!call.numbers.empty()) {
    if (call.numbers[0].isComplex()) return nullptr;
    call.inputs.push_back(wrapped(call.numbers[0]));
    call.numbers.clear();
  }
  return kernels;
}
constexpr char kClampMin[] = "clamp_min", kClampMax[] = "clamp_max";

Kernels where(PointwiseCall& call) {
  static const Kernels kernels = &pointwise_kernels("where");
  if (call.inputs[0].scalar_type() != at::kBool || !call.inputs[0].is_cuda()) return nullptr;
  if (call.inputs[1].is_cpu() && call.inputs[2].is_cpu()) {  // TensorIterator takes one number beside a card's tensors
    call.inputs[1] = call.inputs[1].to(call.inputs[0].device());
    call.inputs[1].unsafeGetTensorImpl()->set_wrapped_number(
        call.arguments[1].toTensor().unsafeGetTensorImpl()->is_wrapped_number());
  }
  return kernels;
}

// Complex: the result is real
template <const char* real, const char* complex>
Kernels to_real(PointwiseCall& call) {
  static const Kernels of_real = &pointwise_kernels(real), of_complex = &pointwise_kernels(complex);
  if (call.inputs[0].scalar_type() != at::kComplexFloat) return of_real;
  if (call.out.defined() && call.out.scalar_type() != at::kFloat) return nullptr;
  call.form = Form::kMade;
  call.made = at::kFloat;
  return of_complex;
}
constexpr char kAbs[] = "abs", kAbsComplex[] = "abs_complex", kAngle[] = "angle", kAngleComplex[] = "angle_complex";

Kernels sgn(PointwiseCall& call) {
  static const Kernels of_real = &pointwise_kernels("sign"), of_complex = &pointwise_kernels("sgn_complex");
  return call.inputs[0].is_complex() ? of_complex : of_real;
}

// A complex result of float32
template <const char* name>
Kernels to_complex(PointwiseCall& call) {
  static const Kernels kernels = &pointwise_kernels(name);
  if (call.inputs[0].scalar_type() != at::kFloat || call.inputs[1].scalar_type() != at::kFloat) return nullptr;
  if (call.out.defined() && call.out.scalar_type() != at::kComplexFloat) return nullptr;
  call.form = Form::kMade;
  call.made = at::kComplexFloat;
  return kernels;
}
constexpr char kComplex[] = "complex", kPolar[] = "polar";

Kernels bitwise_not(PointwiseCall& call) {
  static const Kernels of_bits = &pointwise_kernels("bitwise_not"), of_bool = &pointwise_kernels("logical_not");
  return call.inputs[0].scalar_type() == at::kBool ? of_bool : of_bits;
}

// floor, ceil, round, trunc: integers are those already
template <const char* name>
Kernels rounded(PointwiseCall& call) {
  static const Kernels kernels = &pointwise_kernels(name), copy = &pointwise_kernels("copy");
  return !integral(call) ? kernels : call.inputs[0].scalar_type() == at::kBool ? nullptr : copy;
}
constexpr char kFloor[] = "floor", kCeil[] = "ceil", kRound[] = "round", kTrunc[] = "trunc";

template <const char* exact, const char* tanh>
Kernels gelu(PointwiseCall& call) {
  static const Kernels of_erf = &pointwise_kernels(exact), of_tanh = &pointwise_kernels(tanh);
  const auto approximate = call.arguments[call.inputs.size()].toStringView();
  return approximate == "none" ? of_erf : approximate == "tanh" ? of_tanh : nullptr;
}
constexpr char kGelu[] = "gelu", kGeluTanh[] = "gelu_tanh", kGeluBackward[] = "gelu_backward",
               kGeluTanhBackward[] = "gelu_tanh_backward";

Kernels elu_backward(PointwiseCall& call) {
  static const Kernels of_input = &pointwise_kernels("elu_backward"), of_result = &pointwise_kernels("elu_backward_of_result");
  return call.arguments[4].toBool() ? of_result : of_input;
}

Kernels log_sigmoid_backward(PointwiseCall& call) {
  static const Kernels kernels = &pointwise_kernels("log_sigmoid_backward");
  call.inputs.resize(2);  // the third is what the CPU keeps of the forward pass
  return kernels;
}

Kernels nan_to_num(PointwiseCall& call) {
  static const Kernels kernels = &pointwise_kernels("nan_to_num");
  const auto dtype = call.inputs[0].scalar_type();
  if (!c10::isFloatingType(dtype)) return nullptr;
  double least = 0, most = 0;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "nan_to_num", [&] {
    least = static_cast<double>(std::numeric_limits<scalar_t>::lowest());
    most = static_cast<double>(std::numeric_limits<scalar_t>::max());
  });
  const auto given = [&](size_t i, double otherwise) {
    return call.arguments[i].isNone() ? otherwise : call.arguments[i].toDouble();
  };
  call.numbers = {given(1, 0), given(2, most), given(3, least)};
  return kernels;
}

// What it returns besides is for the CPU's gradient.
bool log_sigmoid_forward(torch::jit::Stack* stack) {
  const Tensor input = stack->back().toTensor();
  if (input.layout() != c10::kStrided) return false;
  Tensor out;
  auto iter = at::TensorIterator::unary_op(out, input);
  static const PointwiseKernels& kernels = pointwise_kernels("log_sigmoid");
  if (!compute_pointwise(iter, kernels, input.scalar_type())) return false;
  give(stack, 1, {Tensor(iter.output_base(0)), at::empty({0}, input.options())});
  return true;
}

const OwnKernel log_sigmoid("aten::log_sigmoid_forward", &log_sigmoid_forward);

const bool added = [] {
  add_pointwise("add.Tensor", Form::kPromoted, &scaled<kAdd>);
  add_pointwise("sub.Tensor", Form::kPromoted, &scaled<kSub>);
  for (const char* op : {"mul", "maximum", "minimum", "fmax", "fmin", "hypot", "floor_divide"}) {
    const std::string name = op;
    add_pointwise(name == "mul" ? "mul.Tensor" : name, Form::kPromoted, name == "floor_divide" ? "div_floor" : name);
  }
  for (const char* op : {"remainder", "fmod", "bitwise_and", "bitwise_or", "bitwise_xor"}) {
    add_pointwise(op + std::string(".Tensor"), Form::kPromoted, op);
  }
  add_pointwise("bitwise_left_shift.Tensor", Form::kPromoted, "shift_left");
  add_pointwise("bitwise_right_shift.Tensor", Form::kPromoted, "shift_right");
  for (const std::string prefix : {"__", "__i"}) {  // t << n, t <<= n
    add_pointwise(prefix + "lshift__.Tensor", Form::kPromoted, "shift_left");
    add_pointwise(prefix + "rshift__.Tensor", Form::kPromoted, "shift_right");
    add_pointwise(prefix + "lshift__.Scalar", Form::kPromoted, &with_number<kShiftLeft>);
    add_pointwise(prefix + "rshift__.Scalar", Form::kPromoted, &with_number<kShiftRight>);
  }
  add_pointwise("div.Tensor", Form::kFloat, "div");
  add_pointwise("div.Tensor_mode", Form::kPromoted, &divided);
  add_pointwise("atan2", Form::kFloat, "atan2");
  add_pointwise("copysign.Tensor", Form::kFloat, "copysign");
  add_pointwise("xlogy.Tensor", Form::kFloat, "xlogy");
  add_pointwise("logaddexp", Form::kPromoted, "logaddexp");
  add_pointwise("remainder.Scalar_Tensor", Form::kPromoted, &number_first<kRemainder>);
  add_pointwise("pow.Tensor_Tensor", Form::kPromoted, "pow");
  add_pointwise("pow.Tensor_Scalar", Form::kPromoted, &power);
  add_pointwise("pow.Scalar", Form::kPromoted, &number_first<kPow>);
  add_pointwise("lerp.Tensor", Form::kPromoted, "lerp");
  add_pointwise("lerp.Scalar", Form::kPromoted, &with_number<kLerp>);
  add_pointwise("addcmul", Form::kPromoted, "addcmul");
  add_pointwise("addcdiv", Form::kPromoted, "addcdiv");
  add_pointwise("clamp", Form::kPromoted, &clamp);
  add_pointwise("clamp.Tensor", Form::kPromoted, &clamp);
  add_pointwise("clamp_min", Form::kPromoted, &bounded<kClampMin>);
  add_pointwise("clamp_min.Tensor", Form::kPromoted, &bounded<kClampMin>);
  add_pointwise("clamp_max", Form::kPromoted, &bounded<kClampMax>);
  add_pointwise("clamp_max.Tensor", Form::kPromoted, &bounded<kClampMax>);
  add_pointwise("where.self", Form::kPromoted, &where);

  add_pointwise("eq.Tensor", Form::kComparison, "eq");
  add_pointwise("ne.Tensor", Form::kComparison, "ne");
  add_pointwise("lt.Tensor", Form::kComparison, "lt");
  add_pointwise("le.Tensor", Form::kComparison, "le");
  add_pointwise("gt.Tensor", Form::kComparison, "gt");
  add_pointwise("ge.Tensor", Form::kComparison, "ge");
  add_pointwise("eq.Scalar", Form::kComparison, &with_number<kEq>);
  add_pointwise("ne.Scalar", Form::kComparison, &with_number<kNe>);
  add_pointwise("lt.Scalar", Form::kComparison, &with_number<kLt>);
  add_pointwise("le.Scalar", Form::kComparison, &with_number<kLe>);
  add_pointwise("gt.Scalar", Form::kComparison, &with_number<kGt>);
  add_pointwise("ge.Scalar", Form::kComparison, &with_number<kGe>);
  for (const char* op : {"logical_and", "logical_or", "logical_xor"}) add_pointwise(op, Form::kComparison, op);
  for (const char* op : {"isnan", "isposinf", "isneginf", "signbit", "logical_not"}) add_pointwise(op, Form::kMade, op);

  add_pointwise("abs", Form::kSame, &to_real<kAbs, kAbsComplex>);
  add_pointwise("angle", Form::kSame, &to_real<kAngle, kAngleComplex>);
  add_pointwise("sgn", Form::kSame, &sgn);
  add_pointwise("sign", Form::kSame, "sign");
  add_pointwise("neg", Form::kSame, "neg");
  add_pointwise("conj_physical", Form::kSame, "conj");
  add_pointwise("bitwise_not", Form::kSame, &bitwise_not);
  add_pointwise("floor", Form::kSame, &rounded<kFloor>);
  add_pointwise("ceil", Form::kSame, &rounded<kCeil>);
  add_pointwise("round", Form::kSame, &rounded<kRound>);
  add_pointwise("trunc", Form::kSame, &rounded<kTrunc>);
  add_pointwise("frac", Form::kSame, "frac");
  add_pointwise("nan_to_num", Form::kSame, &nan_to_num);
  for (const char* op : {"reciprocal", "sqrt",  "rsqrt", "exp",   "exp2", "expm1", "log",    "log2",   "log10",
                         "log1p",      "sin",   "cos",   "tan",   "asin", "acos",  "atan",   "sinh",   "cosh",
                         "tanh",       "asinh", "acosh", "atanh", "erf",  "erfc",  "lgamma", "sigmoid"}) {
    add_pointwise(op, Form::kFloat, op);
  }
  add_pointwise("complex", Form::kMade, &to_complex<kComplex>);
  add_pointwise("polar", Form::kMade, &to_complex<kPolar>);

  for (const char* op : {"relu", "leaky_relu", "elu", "silu", "mish", "softplus", "threshold", "hardtanh", "hardswish",
                         "hardsigmoid", "hardshrink", "softshrink"}) {
    add_pointwise(op, Form::kSame, op);
  }
  for (const char* op :
       {"sigmoid_backward", "tanh_backward", "threshold_backward", "leaky_relu_backward", "silu_backward", "mish_backward",
        "softplus_backward", "hardtanh_backward", "hardswish_backward", "hardsigmoid_backward"}) {
    add_pointwise(op, Form::kPromoted, op);
  }
  add_pointwise("hardshrink_backward", Form::kPromoted, "shrink_backward");
  add_pointwise("softshrink_backward", Form::kPromoted, "shrink_backward");
  add_pointwise("_prelu_kernel", Form::kPromoted, "prelu");
  add_pointwise("gelu", Form::kSame, &gelu<kGelu, kGeluTanh>);
  add_pointwise("gelu_backward", Form::kPromoted, &gelu<kGeluBackward, kGeluTanhBackward>);
  add_pointwise("elu_backward", Form::kPromoted, &elu_backward);
  add_pointwise("log_sigmoid_backward", Form::kPromoted, &log_sigmoid_backward);
  return true;
}();

}  // namespace
}  // namespace blackwell_compat
