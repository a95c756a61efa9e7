"""PyTorch's own suite (OpInfo) in mode kernel: what this package's kernels take, they and nothing else compute."""

from __future__ import annotations

import blackwell_compat as bc
import fakecard
import pytest
import torch
from opinfo_on_card import OPS, samples

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
ALL = (*FLOATS, *INTEGERS, torch.bool)


def entries(ops: dict[str, tuple[torch.dtype, ...]]) -> list[object]:
    """(name, dtype) for each dtype that OpInfo has samples of, as pytest's parameters."""
    return [
        pytest.param(name, dtype, id=f"{name}-{str(dtype).removeprefix('torch.')}")
        for name, dtypes in ops.items()
        for dtype in dtypes
        if dtype in OPS[name].dtypes
    ]


# An op's out= on the CPU is wrong where the tensor has strides: torch._C._nn.gelu writes nothing
OUT_IS_WRONG = ("nn_functional_gelu",)
ELSEWHERE = {"aten::copy_", "aten::_local_scalar_dense"}  # copies between the card and the host


def check(name: str, dtype: torch.dtype, taken: set[str] | None = None, most: int = 8) -> None:
    """Forward, backward, out=, in-place and aliasing as on the CPU; no op of `taken` ("aten::_softmax") went there.

    Without `taken`, none that has a kernel.
    """
    taken = {op for op, by in bc.coverage().items() if by == "kernel"} - ELSEWHERE if taken is None else taken
    bc.reset_fallbacks()
    if fakecard.here():
        fakecard.reset()
    ran = 0
    with pytest.MonkeyPatch.context() as patch:
        if name in OUT_IS_WRONG:
            patch.setattr(OPS[name], "supports_out", False)
        for sample in samples(OPS[name], dtype, most):
            sample.check()
            ran += 1
    assert ran
    if fakecard.here():
        launched = fakecard.counters()["launched"]
        assert all(kernel.startswith("compat_") for kernel in launched), launched
    fell = {line.op for line in bc.fallbacks().lines} & taken
    assert not fell, fell
