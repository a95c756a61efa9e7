"""Float64 references, and the accuracy rule that every op's tests use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

# n_fft with every radix of our transform and orders of them, sizes left to the FFT library (17, 34, 10240), odd ones
TRANSFORM_SIZES = [2, 3, 4, 8, 12, 15, 16, 17, 20, 22, 26, 34, 48, 49, 64, 100, 128, 143, 256, 400, 507, 512]
TRANSFORM_SIZES += [1024, 1540, 1920, 2048, 4096, 10240]


def values(*size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normally distributed values, the same at each call; integers from -4 to 4."""
    generator = torch.Generator().manual_seed(sum(size) + 7919 * seed)
    if not dtype.is_floating_point:
        return torch.randint(-4, 5, size, generator=generator, dtype=dtype)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)


def widened(value: Any) -> Any:
    """A floating-point tensor in float64, a complex one in complex128, anything else as it is."""
    if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
        return value.to(torch.complex128 if value.is_complex() else torch.float64)
    return value


def in_float64(op: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """The result of torch's own `op` on the same values in float64."""
    return op(*map(widened, args), **{name: widened(value) for name, value in kwargs.items()})


def assert_as_accurate(got: torch.Tensor, peer: torch.Tensor, want: torch.Tensor) -> None:
    """`got` may be twice as far from the float64 `want` as torch's own `peer` is, plus one rounding.

    Float64 results have no reference above them: they are as far as 64 roundings of the largest value from `want`.
    """
    assert got.shape == want.shape, (got.shape, want.shape)
    assert got.dtype == peer.dtype, (got.dtype, peer.dtype)

    def largest(t: torch.Tensor) -> float:
        return t.abs().amax().item() if t.numel() else 0.0

    ours, theirs = largest(got.to(want.dtype) - want), largest(peer.to(want.dtype) - want)
    floor = torch.finfo(got.dtype).eps * largest(want) * (64 if got.dtype == want.dtype else 1)
    assert ours <= 2 * theirs + floor, f"max error {ours:.3e}, torch's own {theirs:.3e}, one rounding {floor:.3e}"


def assert_gradients_as_accurate(
    ours: Callable[..., torch.Tensor],
    theirs: Callable[..., torch.Tensor],
    args: Sequence[torch.Tensor],
    kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """That rule for the gradients of all `args`, for random ones of the result."""
    seed = values(*theirs(*args, **kwargs).shape, dtype=args[0].dtype, seed=3)

    def gradients(op: Callable[..., torch.Tensor], convert: Callable[[Any], Any]) -> tuple[torch.Tensor, ...]:
        leaves = [convert(a.detach()).requires_grad_() for a in args]
        return torch.autograd.grad(op(*leaves, **kwargs), leaves, convert(seed))

    runs = gradients(ours, torch.clone), gradients(theirs, torch.clone), gradients(theirs, widened)
    for grads in zip(*runs, strict=True):
        assert_as_accurate(*grads)


def assert_rounded(got: torch.Tensor, want: torch.Tensor, magnitude: torch.Tensor) -> None:
    """`got` is the float64 `want` but for rounding: one of the result, and what float32 sums of `magnitude` allow.

    For shapes drawn at random, where torch's own error may happen to be zero. `magnitude` is `want` of absolute values.
    """
    assert got.shape == want.shape, (got.shape, want.shape)
    if not got.numel():
        return
    working = torch.finfo(torch.promote_types(got.dtype, torch.float32)).eps
    allowed = torch.finfo(got.dtype).eps * want.abs().max().item() + 8 * working * magnitude.max().item()
    error = (got.double() - want).abs().max().item()
    assert error <= allowed, f"max error {error:.3e}, allowed {allowed:.3e}"
