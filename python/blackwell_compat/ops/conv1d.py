"""compat_conv1d: the public function over torch.ops.blackwell_compat.compat_conv1d."""

from __future__ import annotations

import torch

from blackwell_compat import _C


def one(value: int | tuple[int, ...] | list[int]) -> int:
    """The value of an argument that torch takes as a number or as a sequence of one number."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise RuntimeError(f"compat_conv1d: stride, padding and dilation must hold one value each, got {value}")
        return value[0]
    return value


def compat_conv1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, ...] | list[int] = 1,
    padding: int | tuple[int, ...] | list[int] | str = 0,
    dilation: int | tuple[int, ...] | list[int] = 1,
    groups: int = 1,
    *,
    pre_activation: str = "none",
    pre_slope: float = 0.01,
    activation: str = "none",
    slope: float = 0.01,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """1-D convolution with this package's kernels; same values as torch.nn.functional.conv1d.

    Args:
        input: (N, C_in, L_in) or (C_in, L_in); float32, float16, bfloat16 or float64; contiguous or channels-last-1d
            (strides (C_in * L_in, 1, C_in)), anything else is copied.
        weight, bias: (C_out, C_in / groups, K), and (C_out,) or None; dtype and device of `input`.
        stride, dilation: samples, >= 1. padding: samples of zeros on each side, >= 0, or "same" or "valid".
        groups: divides C_in and C_out.
        pre_activation, activation: applied to `input`, and to the result: "none", "relu", "leaky_relu", "gelu",
            "gelu_tanh", "silu" or "tanh".
        pre_slope, slope: of leaky_relu for negative values.
        residual: added to the result after the activation; its size and dtype, or None.
    Returns:
        (N, C_out, L_out) or (C_out, L_out), L_out = floor((L_in + 2*padding - dilation*(K - 1) - 1) / stride) + 1;
        dtype of `input`, summed in float32 (float64 for float64), channels-last-1d where `input` is.
    Raises:
        RuntimeError: a rule above is broken; the message names the argument and what it got.
        NotImplementedError: a complex dtype.
        ValueError: an unknown activation.
    Source: the formula of torch.nn.Conv1d, in blocks of positions (csrc/common/conv_blocks.h), by minimal filtering for
        stride 1 (Winograd 1980; csrc/common/conv_minimal.cpp).
    """
    if isinstance(padding, str):
        return torch.ops.blackwell_compat.compat_conv1d.padding(  # type: ignore[no-any-return]
            input, weight, bias, [one(stride)], padding, [one(dilation)], groups, pre_activation=pre_activation,
            pre_slope=pre_slope, activation=activation, slope=slope, residual=residual,
        )  # fmt: skip
    s, p, d = one(stride), one(padding), one(dilation)
    if not torch.compiler.is_compiling():
        result = _C.conv1d(input, weight, bias, s, p, d, groups, pre_activation, pre_slope, activation, slope, residual)
        if result is not NotImplemented:
            return result  # type: ignore[no-any-return]
    return torch.ops.blackwell_compat.compat_conv1d(  # type: ignore[no-any-return]
        input, weight, bias, [s], [p], [d], groups, pre_activation=pre_activation, pre_slope=pre_slope,
        activation=activation, slope=slope, residual=residual,
    )  # fmt: skip
