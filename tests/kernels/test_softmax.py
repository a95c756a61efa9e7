"""softmax's kernels as the emulator runs them, against float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded
from teams import COLUMN_BYTES, COLUMN_THREADS, TEAM_BYTES, columns_of, row_blocks, rows_are_packs, team_of

OUT_KINDS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}


class Params(ctypes.Structure):
    """SoftmaxParams of csrc/kernels/softmax.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in_", "grad", "out")),
        *((name, ctypes.c_longlong) for name in ("outer", "n", "inner")),
        *((name, ctypes.c_int) for name in ("team", "columns", "out_kind")),
        *((name, ctypes.c_bool) for name in ("packs", "log")),
    )


@pytest.fixture(scope="module")
def card():
    return emulator.load(800)


def run(card, x, grad=None, log=False, to=None, packs=None):
    """Along dimension 1 of (outer, n, inner); with a grad x is the forward's result."""
    outer, n, inner = x.shape
    dtype = next(name for name, of_torch in DTYPES.items() if of_torch == x.dtype)
    out = guarded(torch.full(x.shape, float("nan"), dtype=to or x.dtype))
    p = Params(in_=x.data_ptr(), out=out.data_ptr(), outer=outer, n=n, inner=inner, log=log)
    p.out_kind = 0 if out.dtype == x.dtype else OUT_KINDS[out.dtype]
    if grad is not None:
        p.grad = grad.data_ptr()
    name = "compat_softmax_grad" if grad is not None else "compat_softmax"
    if inner == 1:
        p.team, p.packs = team_of(n, x.element_size()), rows_are_packs(x, n) if packs is None else packs
        card.launch(f"{name}_rows_{dtype}", *row_blocks(outer, p.team), TEAM_BYTES, p)
    else:
        p.columns = columns_of(n)
        blocks = ceil_div(outer * inner, p.columns)
        card.launch(f"{name}_columns_{dtype}", blocks, COLUMN_THREADS, COLUMN_BYTES, p)
    return out


def peer(log):
    return torch.log_softmax if log else torch.softmax


@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 1, 1), (3, 8, 1), (33, 77, 1), (2, 520, 1), (1, 9000, 1), (1, 8193, 1)], ids=str)
def test_rows(card, dtype, shape, log):
    x = guarded(reference.values(*shape, dtype=DTYPES[dtype]) * 5)
    reference.assert_as_accurate(run(card, x, log=log), peer(log)(x, 1), peer(log)(x.double(), 1))


@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1, 7), (2, 5, 130), (1, 40, 33)], ids=str)
def test_columns(card, dtype, shape, log):
    x = guarded(reference.values(*shape, dtype=DTYPES[dtype]) * 5)
    reference.assert_as_accurate(run(card, x, log=log), peer(log)(x, 1), peer(log)(x.double(), 1))


@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(33, 77, 1), (2, 520, 1), (1, 9000, 1), (3, 1, 7), (2, 5, 130), (1, 40, 33)], ids=str
)
def test_gradients(card, dtype, shape, log):
    x = reference.values(*shape, dtype=DTYPES[dtype]) * 5
    y, grad = guarded(peer(log)(x, 1)), guarded(reference.values(*shape, dtype=DTYPES[dtype], seed=1))

    def want(y, grad, sign):
        if log:
            return grad - sign * y.exp() * grad.sum(1, keepdim=True)
        return (grad - sign * (grad * y).sum(1, keepdim=True)) * y

    wide, wide_grad = y.double(), grad.double()
    reference.assert_rounded(run(card, y, grad, log), want(wide, wide_grad, 1), want(wide, wide_grad.abs(), -1))


@pytest.mark.parametrize("shape", [(3, 40, 1), (2, 9000, 1), (2, 40, 3)], ids=str)
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_masked_and_other_special_rows(card, shape, log):
    x = guarded(reference.values(*shape))
    inf = float("inf")
    x[0] = -inf  # all of it: NaN
    x[1, : shape[1] // 2] = -inf
    for last in (-inf, inf, float("nan")):
        x[-1, -1] = last
        torch.testing.assert_close(run(card, x, log=log), peer(log)(x, 1), equal_nan=True)


def test_without_packs(card):
    x = guarded(reference.values(3, 48, 1, dtype=torch.float16))
    assert torch.equal(run(card, x, packs=False), run(card, x))


@pytest.mark.parametrize("shape", [(3, 48, 1), (3, 47, 1), (2, 20, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_half_to_float_and_back(card, dtype, shape):
    x = guarded(reference.values(*shape, dtype=DTYPES[dtype]))
    y = run(card, x, to=torch.float32)
    torch.testing.assert_close(y, torch.softmax(x.float(), 1))
    grad = guarded(reference.values(*shape, seed=1))
    got = run(card, guarded(y), grad, to=DTYPES[dtype])
    torch.testing.assert_close(got, ((grad - (grad * y).sum(1, keepdim=True)) * y).to(DTYPES[dtype]))
