// Nested loops over several strided operands: as few of them as there can be, and the widest units that all can be read in.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <array>

namespace blackwell_compat {

// Strides count bytes. Operand 0 is written.
template <size_t operands>
struct Loop {
  int64_t size;
  std::array<int64_t, operands> strides;
};

// The outermost comes first.
template <size_t operands>
using Nest = c10::SmallVector<Loop<operands>, 8>;

// In the order of operand `key`, or as they are where that is negative; without loops of one step, and one loop of two where that
// goes. At least one is left.
template <size_t operands>
void simplify(Nest<operands>& nest, int key = 0) {
  nest.erase(std::remove_if(nest.begin(), nest.end(), [](const auto& loop) { return loop.size == 1; }), nest.end());
  if (key >= 0) {
    std::stable_sort(nest.begin(), nest.end(),
                     [&](const auto& a, const auto& b) { return std::abs(a.strides[key]) > std::abs(b.strides[key]); });
  }
  Nest<operands> joined;
  for (const auto& loop : nest) {
    const auto continues = [&](const auto& outer) {
      for (size_t i = 0; i < operands; ++i) {
        if (outer.strides[i] != loop.strides[i] * loop.size) return false;
      }
      return true;
    };
    if (!joined.empty() && continues(joined.back())) {
      joined.back() = {joined.back().size * loop.size, loop.strides};
    } else {
      joined.push_back(loop);
    }
  }
  if (joined.empty()) joined.push_back({1, {}});
  nest = std::move(joined);
}

// Into the parameters of a kernel, with loops of one step around, as many as it has; false where there are more.
template <size_t operands, size_t dims, class... Strides>
bool lay_out(const Nest<operands>& nest, unsigned (&sizes)[dims], Strides (&... strides)[dims]) {
  static_assert(sizeof...(strides) == operands);
  if (nest.size() > dims) return false;
  const size_t around = dims - nest.size();
  for (size_t d = 0; d < dims; ++d) {
    const Loop<operands> loop = d < around ? Loop<operands>{1, {}} : nest[d - around];
    sizes[d] = static_cast<unsigned>(loop.size);
    size_t operand = 0;
    ((strides[d] = loop.strides[operand++]), ...);
  }
  return true;
}

template <size_t operands>
int64_t steps_of(const Nest<operands>& nest) {
  int64_t steps = 1;
  for (const auto& loop : nest) steps *= loop.size;
  return steps;
}

inline int64_t address_of(const void* pointer) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(pointer)); }

// How many bytes can be moved at a time between the first `moved` operands; the others have to stay where they are meanwhile.
// `offsets` are the addresses of those, and whatever else in bytes their elements lie apart.
template <size_t moved, size_t operands>
int64_t widest_unit(const Nest<operands>& nest, int64_t element, at::IntArrayRef offsets) {
  const Loop<operands>& inner = nest.back();
  for (size_t i = 0; i < operands; ++i) {
    if (inner.strides[i] != (i < moved ? element : 0)) return element;
  }
  int64_t unit = 16;
  const auto fits = [&](int64_t bytes) { return bytes % unit == 0; };
  const auto all_fit = [&] {
    for (size_t i = 0; i < moved; ++i) {
      for (const auto& loop : nest) {
        if (&loop != &inner && !fits(loop.strides[i])) return false;
      }
    }
    return fits(inner.size * element) && std::all_of(offsets.begin(), offsets.end(), fits);
  };
  while (unit > element && !all_fit()) unit /= 2;
  return unit;
}

// Sizes and the strides of the first `moved` operands count units from here on.
template <size_t moved, size_t operands>
void in_units(Nest<operands>& nest, int64_t element, int64_t unit) {
  Loop<operands>& inner = nest.back();
  if (unit != element) {
    inner.size = inner.size * element / unit;
    for (size_t i = 0; i < moved; ++i) inner.strides[i] = unit;
  }
  for (auto& loop : nest) {
    for (size_t i = 0; i < moved; ++i) loop.strides[i] /= unit;
  }
}

}  // namespace blackwell_compat
