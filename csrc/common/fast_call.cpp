// Direct entry points for Python. Each returns NotImplemented where torch.ops has to do it: tensor subclasses, modes.
#include "common/fast_call.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>

#include "ops/conv1d/conv1d.h"
#include "ops/conv_transpose1d/conv_transpose1d.h"
#include "ops/linear/linear.h"

namespace blackwell_compat {
namespace {

// Reads positional arguments in order; ok() says whether all were of the plain kind.
class Arguments {
 public:
  Arguments(PyObject* const* args, Py_ssize_t count, Py_ssize_t wanted)
      : next_(args), ok_(count == wanted && !at::impl::torch_function_mode_enabled()) {}

  bool ok() const { return ok_; }
  Tensor tensor() { return ok_ ? plain(*next_++) : Tensor(); }
  OptTensor optional_tensor() {
    if (!ok_) return {};
    if (*next_ == Py_None) return ++next_, OptTensor();
    return plain(*next_++);
  }
  c10::SymInt integer() {
    if (!ok_) return 0;
    if (!PyLong_CheckExact(*next_)) return ok_ = false, c10::SymInt(0);
    int overflow = 0;
    const int64_t value = PyLong_AsLongLongAndOverflow(*next_++, &overflow);
    ok_ = overflow == 0;
    return value;
  }
  double number() {
    if (!ok_) return 0;
    if (!PyFloat_CheckExact(*next_)) return ok_ = false, 0;
    return PyFloat_AS_DOUBLE(*next_++);
  }
  c10::string_view text() {
    Py_ssize_t size = 0;
    const char* data = ok_ && PyUnicode_Check(*next_) ? PyUnicode_AsUTF8AndSize(*next_++, &size) : nullptr;
    if (ok_ && data == nullptr) PyErr_Clear();  // not UTF-8
    ok_ = ok_ && data != nullptr;
    return ok_ ? c10::string_view(data, size) : c10::string_view();
  }

 private:
  Tensor plain(PyObject* object) {
    if (!THPVariable_CheckExact(object)) return ok_ = false, Tensor();
    return THPVariable_Unpack(object);
  }

  PyObject* const* next_;
  bool ok_;
};

template <typename Compute>
PyObject* wrap(Compute&& compute) {
  Tensor result;
  {
    pybind11::gil_scoped_release unlocked;
    result = compute();
  }
  return THPVariable_Wrap(result);
}

PyObject* not_plain() { return Py_NewRef(Py_NotImplemented); }

PyObject* linear(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  Arguments a(args, count, 7);
  const Tensor input = a.tensor(), weight = a.tensor();
  const OptTensor bias = a.optional_tensor();
  const auto pre = a.text();
  const double pre_slope = a.number();
  const auto act = a.text();
  const double slope = a.number();
  if (!a.ok()) return not_plain();
  return wrap([&] { return compat_linear(input, weight, bias, pre, pre_slope, act, slope); });
  END_HANDLE_TH_ERRORS
}

PyObject* conv1d(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  Arguments a(args, count, 12);
  const Tensor input = a.tensor(), weight = a.tensor();
  const OptTensor bias = a.optional_tensor();
  const c10::SymInt stride = a.integer(), padding = a.integer(), dilation = a.integer(), groups = a.integer();
  const auto pre = a.text();
  const double pre_slope = a.number();
  const auto act = a.text();
  const double slope = a.number();
  const OptTensor residual = a.optional_tensor();
  if (!a.ok()) return not_plain();
  return wrap([&] {
    return compat_conv1d(input, weight, bias, {&stride, 1}, {&padding, 1}, {&dilation, 1}, groups, pre, pre_slope, act, slope,
                         residual);
  });
  END_HANDLE_TH_ERRORS
}

PyObject* conv_transpose1d(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  Arguments a(args, count, 12);
  const Tensor input = a.tensor(), weight = a.tensor();
  const OptTensor bias = a.optional_tensor();
  const c10::SymInt stride = a.integer(), padding = a.integer(), output_padding = a.integer(), groups = a.integer(),
                    dilation = a.integer();
  const auto pre = a.text();
  const double pre_slope = a.number();
  const auto act = a.text();
  const double slope = a.number();
  if (!a.ok()) return not_plain();
  return wrap([&] {
    return compat_conv_transpose1d(input, weight, bias, {&stride, 1}, {&padding, 1}, {&output_padding, 1}, groups, {&dilation, 1},
                                   pre, pre_slope, act, slope);
  });
  END_HANDLE_TH_ERRORS
}

PyMethodDef methods[] = {
    {"linear", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(linear)), METH_FASTCALL, nullptr},
    {"conv1d", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(conv1d)), METH_FASTCALL, nullptr},
    {"conv_transpose1d", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(conv_transpose1d)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_fast_calls(PyObject* module) {
  if (PyModule_AddFunctions(module, methods) != 0) throw pybind11::error_already_set();
}

}  // namespace blackwell_compat
