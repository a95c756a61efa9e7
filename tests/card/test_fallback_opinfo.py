"""Every op of PyTorch's own suite through the fallback. OPINFO_DTYPES=float32,bfloat16 OPINFO_SAMPLES=8: more."""

import os

import opinfo_on_card
import pytest
import torch

pytestmark = pytest.mark.usefixtures("fallback")

DTYPES = [getattr(torch, name) for name in os.environ.get("OPINFO_DTYPES", "float32").split(",")]
SAMPLES = int(os.environ.get("OPINFO_SAMPLES", "3"))
# What stays different, and why
KNOWN = {"sparse_mm_reduce": "PyTorch has no kernel of _sparse_mm_reduce_impl for CUDA on any card"}
ENTRIES = [
    pytest.param(name, dtype, marks=[pytest.mark.xfail(strict=True, reason=KNOWN[name])] if name in KNOWN else [])
    for dtype in DTYPES
    for name in opinfo_on_card.ops_with(dtype)
]


@pytest.mark.parametrize(("name", "dtype"), ENTRIES, ids=lambda value: str(value).removeprefix("torch."))
def test_every_op(name, dtype):
    opinfo_on_card.check(name, dtype, SAMPLES)
