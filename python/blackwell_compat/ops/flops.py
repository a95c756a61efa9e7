"""What torch.utils.flop_counter counts for the ops: two for each product, as for those of PyTorch."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, shape_wrapper

Ops: Any = torch.ops.blackwell_compat
Shape = tuple[int, ...]


def linear(input: Shape, weight: Shape, *args: Any, **kwargs: Any) -> int:
    return 2 * prod(input) * prod(weight[:-1])


def linear_packed(input: Shape, packed: Shape, bias: Any, out_features: int, **kwargs: Any) -> int:
    return 2 * prod(input) * out_features


def linear_backward(grad: Shape, input: Shape, weight: Shape, mask: Any, **kwargs: Any) -> int:
    return int(sum(mask[:2])) * linear(input, weight)


def conv1d(input: Shape, weight: Shape, *args: Any, out_shape: Shape, **kwargs: Any) -> int:
    return 2 * prod(out_shape) * prod(weight[1:])


def conv1d_packed(input: Shape, packed: Shape, bias: Any, size: Any, *args: Any, **kwargs: Any) -> int:
    return conv1d(input, size, **kwargs)


def conv1d_backward(grad: Shape, input: Shape, weight: Shape, *args: Any, **kwargs: Any) -> int:
    return int(sum(args[-1][:2])) * conv1d(input, weight, out_shape=grad)


def conv_transpose1d(input: Shape, weight: Shape, *args: Any, **kwargs: Any) -> int:
    return 2 * prod(input) * prod(weight[1:])


def conv_transpose1d_packed(input: Shape, packed: Shape, bias: Any, size: Any, *args: Any, **kwargs: Any) -> int:
    return conv_transpose1d(input, size)


def conv_transpose1d_backward(grad: Shape, input: Shape, weight: Shape, *args: Any, **kwargs: Any) -> int:
    return int(sum(args[-1][:2])) * conv_transpose1d(input, weight)


# Not by register_flop_formula: that of torch 2.4 registers overloads, which its counter does not look for
for op, formula in {
    Ops.compat_linear: linear,
    Ops.compat_linear_packed: linear_packed,
    Ops.compat_linear_backward: linear_backward,
    Ops.compat_conv1d: conv1d,
    Ops.compat_conv1d_packed: conv1d_packed,
    Ops.compat_conv1d_backward: conv1d_backward,
    Ops.compat_conv_transpose1d: conv_transpose1d,
    Ops.compat_conv_transpose1d_packed: conv_transpose1d_packed,
    Ops.compat_conv_transpose1d_backward: conv_transpose1d_backward,
}.items():
    flop_registry[op] = shape_wrapper(formula)  # type: ignore[no-untyped-call]
