"""compat_conv_transpose1d: the public function over torch.ops.blackwell_compat.compat_conv_transpose1d."""

from __future__ import annotations

import torch

from blackwell_compat import _C
from blackwell_compat.ops.conv1d import one


def compat_conv_transpose1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, ...] | list[int] = 1,
    padding: int | tuple[int, ...] | list[int] = 0,
    output_padding: int | tuple[int, ...] | list[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] | list[int] = 1,
    *,
    pre_activation: str = "none",
    pre_slope: float = 0.01,
    activation: str = "none",
    slope: float = 0.01,
) -> torch.Tensor:
    """Transposed 1-D convolution with this package's kernels; same values as torch.nn.functional.conv_transpose1d.

    Args:
        input: (N, C_in, L_in) or (C_in, L_in); float32, float16, bfloat16 or float64; contiguous or channels-last-1d.
        weight, bias: (C_in, C_out / groups, K), and (C_out,) or None; dtype and device of `input`.
        stride, dilation: samples, >= 1. padding: samples cut off on each side, >= 0. output_padding: samples added at
            the end, less than `stride` or `dilation`.
        groups: divides C_in and C_out.
        pre_activation, activation, pre_slope, slope: as in compat_conv1d.
    Returns:
        (N, C_out, L_out) or (C_out, L_out),
        L_out = (L_in - 1)*stride - 2*padding + dilation*(K - 1) + output_padding + 1;
        dtype of `input`, summed in float32 (float64 for float64), channels-last-1d where `input` is.
    Raises:
        RuntimeError: a rule above is broken; the message names the argument and what it got.
        NotImplementedError: a complex dtype.
        ValueError: an unknown activation.
    Source: the formula of torch.nn.ConvTranspose1d, as one convolution with a channel per phase of the stride.
    """
    op = "compat_conv_transpose1d: stride, padding, output_padding"
    s, p, o, d = one(stride, op), one(padding, op), one(output_padding, op), one(dilation, op)
    if not torch.compiler.is_compiling():
        result = _C.conv_transpose1d(
            input, weight, bias, s, p, o, groups, d, pre_activation, pre_slope, activation, slope
        )
        if result is not NotImplemented:
            return result  # type: ignore[no-any-return]
    return torch.ops.blackwell_compat.compat_conv_transpose1d(  # type: ignore[no-any-return]
        input, weight, bias, [s], [p], [o], groups, [d], pre_activation=pre_activation, pre_slope=pre_slope,
        activation=activation, slope=slope,
    )  # fmt: skip
