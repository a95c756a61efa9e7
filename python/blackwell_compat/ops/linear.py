"""compat_linear: the public function over torch.ops.blackwell_compat.compat_linear."""

from __future__ import annotations

import torch

from blackwell_compat import _C


def compat_linear(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    pre_activation: str = "none",
    pre_slope: float = 0.01,
    activation: str = "none",
    slope: float = 0.01,
) -> torch.Tensor:
    """Linear map with this package's kernels; same values as torch.nn.functional.linear.

    Args:
        input: (*, K); float32, float16, bfloat16 or float64.
        weight, bias: (N, K) or (K,), and (N,) or None; dtype and device of `input`.
        pre_activation, activation: applied to `input`, and to the result: "none", "relu", "leaky_relu", "gelu",
            "gelu_tanh", "silu" or "tanh".
        pre_slope, slope: of leaky_relu for negative values.
    Returns:
        (*, N); dtype of `input`, summed in float32 (float64 for float64).
    Raises:
        RuntimeError: a rule above is broken; the message names the argument and what it got.
        NotImplementedError: a complex dtype.
        ValueError: an unknown activation.
    Source: the formula of torch.nn.Linear. On the CPU csrc/common/row_gemm.h (half precision: oneDNN) on a
        weight that is packed once: it is packed again when it changes; `blackwell_compat.stats()` counts.
    """
    if not torch.compiler.is_compiling():
        result = _C.linear(input, weight, bias, pre_activation, pre_slope, activation, slope)
        if result is not NotImplemented:
            return result  # type: ignore[no-any-return]
    return torch.ops.blackwell_compat.compat_linear(  # type: ignore[no-any-return]
        input, weight, bias, pre_activation=pre_activation, pre_slope=pre_slope, activation=activation, slope=slope
    )
