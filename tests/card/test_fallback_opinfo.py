"""Every op of PyTorch's own suite through the fallback. OPINFO_DTYPES=float32,bfloat16 OPINFO_SAMPLES=8: more."""

import os

import opinfo_on_card
import pytest
import torch

pytestmark = pytest.mark.usefixtures("fallback")

DTYPES = [getattr(torch, name) for name in os.environ.get("OPINFO_DTYPES", "float32").split(",")]
SAMPLES = int(os.environ.get("OPINFO_SAMPLES", "3"))


def entry(name, dtype):
    cause, strict = opinfo_on_card.known(name, dtype), name in opinfo_on_card.EVERY_SAMPLE
    return pytest.param(name, dtype, marks=[pytest.mark.xfail(strict=strict, reason=cause)] if cause else [])


ENTRIES = [entry(name, dtype) for dtype in DTYPES for name in opinfo_on_card.ops_with(dtype)]


@pytest.mark.parametrize(("name", "dtype"), ENTRIES, ids=lambda value: str(value).removeprefix("torch."))
def test_every_op(name, dtype):
    opinfo_on_card.check(name, dtype, SAMPLES)
