"""The scans' kernels as the emulator runs them, against float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, guarded
from teams import row_blocks, team_of

MOST_TEAM, SHARED_BYTES = 512, 512 * 16
NAMES = {**{dtype: name for name, dtype in DTYPES.items()}, torch.int64: "i64"}
SHAPES = [(5, 1, 1), (3, 70, 1), (2, 600, 1), (1, 9001, 1), (2, 33, 5), (1, 4100, 2)]  # outer, n, inner


class Params(ctypes.Structure):
    """ScanParams of csrc/kernels/scan.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in_", "out", "indices")),
        *((name, ctypes.c_longlong) for name in ("rows", "n", "inner")),
        ("team", ctypes.c_int),
        ("smallest", ctypes.c_bool),
    )


@pytest.fixture(scope="module")
def card():
    return emulator.load(800)


def run(card, what, x, indices=None, smallest=False):
    outer, n, inner = x.shape
    out = guarded(torch.full_like(x, 77))
    team = min(team_of(n, x.element_size(), 8), MOST_TEAM)
    p = Params(x.data_ptr(), out.data_ptr(), None, outer * inner, n, inner, team, smallest)
    if indices is not None:
        p.indices = indices.data_ptr()
    card.launch(f"compat_scan_{what}_{NAMES[x.dtype]}", *row_blocks(outer * inner, team), SHARED_BYTES, p)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums(card, dtype, shape):
    x = guarded(reference.values(*shape, dtype=DTYPES[dtype]))
    reference.assert_rounded(run(card, "sum", x), x.double().cumsum(1), x.double().abs().cumsum(1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integers(card, shape):
    x = guarded(reference.values(*shape, dtype=torch.int64))
    assert torch.equal(run(card, "sum", x), x.cumsum(1))
    assert torch.equal(run(card, "prod", x), x.cumprod(1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products(card, dtype, shape):
    x = guarded((1 + reference.values(*shape, dtype=torch.float64) / (8 * shape[1])).to(DTYPES[dtype]))
    limit = 4 * torch.finfo(x.dtype).eps + shape[1] * torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps
    torch.testing.assert_close(run(card, "prod", x).double(), x.double().cumprod(1), rtol=limit, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logarithms_of_sums(card, dtype, shape):
    x = guarded(reference.values(*shape, dtype=DTYPES[dtype]) * 5)
    x[0, 0] = -torch.inf
    limit = 4 * torch.finfo(x.dtype).eps * (16 if dtype == "f64" else 1)  # the reference has its own rounding errors
    want = x.double().logcumsumexp(1)
    torch.testing.assert_close(run(card, "logsum", x).double(), want, rtol=limit, atol=8 * limit)
    if shape[1] > 60:
        x[0, 20], x[0, 40], x[0, 60] = torch.inf, -torch.inf, torch.nan
        torch.testing.assert_close(
            run(card, "logsum", x), x.logcumsumexp(1), equal_nan=True, rtol=limit, atol=8 * limit
        )


@pytest.mark.parametrize("smallest", [False, True], ids=["max", "min"])
@pytest.mark.parametrize("dtype", [*DTYPES.values(), torch.int64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_extremes(card, dtype, shape, smallest):
    x = guarded((reference.values(*shape) * 3).round().to(dtype))
    if dtype.is_floating_point and shape[1] > 60:
        x[0, 40], x[0, 50] = torch.nan, torch.nan
    indices = guarded(torch.full(shape, 77, dtype=torch.int64))
    values = run(card, "extreme", x, indices, smallest)
    want = (torch.cummin if smallest else torch.cummax)(x, 1)
    torch.testing.assert_close(values, want.values, equal_nan=True, rtol=0, atol=0)
    assert torch.equal(indices, want.indices)
