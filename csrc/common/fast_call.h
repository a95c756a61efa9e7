// Direct entry points for Python: the dispatched ops without the argument parser of torch.ops, which costs more than a
// small layer's arithmetic.
#pragma once
#include <Python.h>

namespace blackwell_compat {
void add_fast_calls(PyObject* module);
}
