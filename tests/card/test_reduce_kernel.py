"""Reductions in mode kernel: PyTorch's own suite, and what models ask beyond it."""

import math

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card, only_ours, reset
from opinfo_kernels import ALL, FLOATS, INTEGERS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")
TAKEN = {
    *("aten::sum.dim_IntList", "aten::sum.IntList_out", "aten::mean.dim", "aten::mean.out"),
    *(
        "aten::prod",
        "aten::prod.dim_int",
        "aten::prod.int_out",
        "aten::amax",
        "aten::amax.out",
        "aten::amin",
        "aten::amin.out",
    ),
    *("aten::max", "aten::max.dim", "aten::max.dim_max", "aten::min", "aten::min.dim", "aten::min.dim_min"),
    *("aten::argmax", "aten::argmax.out", "aten::argmin", "aten::argmin.out"),
    *("aten::any", "aten::any.dim", "aten::any.dims", "aten::any.out", "aten::any.all_out", "aten::any.dims_out"),
    *("aten::all", "aten::all.dim", "aten::all.dims", "aten::all.out", "aten::all.all_out", "aten::all.dims_out"),
    *("aten::var.correction", "aten::var.correction_out", "aten::std.correction", "aten::std.correction_out"),
    *("aten::var_mean.correction", "aten::std_mean.correction", "aten::equal"),
    *("aten::linalg_vector_norm", "aten::linalg_vector_norm.out", "aten::norm.ScalarOpt_dim", "aten::norm.out"),
    *("aten::norm.ScalarOpt_dim_dtype", "aten::norm.dtype_out"),
}
OPS = {
    "sum": (*ALL, torch.complex64),
    "mean": (*FLOATS, torch.complex64),
    "prod": ALL,
    **dict.fromkeys(("amax", "amin", "max_reduction_with_dim", "max_reduction_no_dim"), ALL),
    **dict.fromkeys(("min_reduction_with_dim", "min_reduction_no_dim"), (torch.float32, torch.int64, torch.bool)),
    **dict.fromkeys(("argmax", "argmin"), (*FLOATS, *INTEGERS)),
    **dict.fromkeys(("any", "all"), ALL),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), FLOATS),
    **dict.fromkeys(("var_unbiased", "std_mean_unbiased", "logsumexp", "norm_inf"), (torch.float32,)),
    **dict.fromkeys(("linalg_vector_norm", "norm"), FLOATS),
    "equal": (torch.float32, torch.bool),
}
FUNCTIONS = {
    "sum": torch.sum,
    "mean": torch.mean,
    "amax": torch.amax,
    "var": lambda x, dim: torch.var(x, dim),
    "norm": lambda x, dim: torch.linalg.vector_norm(x, 2, dim),
    "max": lambda x, dim: x.max(dim).indices if isinstance(dim, int) else x.amax(dim),
}


def fell_back():
    return {line.op for line in bc.fallbacks().lines} & TAKEN


def compare(function, x, dim):
    there = on_card(x)[0]
    reset()
    bc.reset_fallbacks()
    got = function(there, dim)
    only_ours()
    assert not fell_back()
    want = function(x.double(), dim)
    limit = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[x.dtype]
    assert got.shape == want.shape
    torch.testing.assert_close(got.cpu().to(want.dtype), want, rtol=limit, atol=limit * max(1, want.abs().max().item()))


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_opinfo(name, dtype):
    check(name, dtype, TAKEN, most=3)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((2, 70, 96), -1),  # rows
        ((500, 96), 0),  # columns, as a bias gradient sums
        ((2, 320, 6, 7), (0, 2, 3)),
        ((70001,), 0),  # two launches
        ((5, 3001, 2), 1),
        ((4, 5, 6, 7), (1, 3)),
        ((300, 300), (0, 1)),
        ((1, 2, 1), 1),
    ],
    ids=str,
)
def test_shapes(name, shape, dim):
    compare(FUNCTIONS[name], reference.values(*shape), dim)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((3, 1024), 1), ((700, 40), 0), ((20000,), 0)], ids=str)
def test_half_precision(dtype, shape, dim):
    for name in ("sum", "mean", "var", "norm"):
        compare(FUNCTIONS[name], reference.values(*shape, dtype=dtype), dim)
    got = torch.sum(on_card(reference.values(*shape, dtype=dtype))[0], dim, dtype=torch.float32)
    assert got.dtype == torch.float32


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.transpose(0, 2),
        lambda t: t[:, ::2, 1::2],
        lambda t: t[:, :1].expand(6, 7, 10),
        lambda t: t.permute(1, 0, 2)[1:],
        lambda t: t.as_strided((5, 4, 6), (1, 3, 7)),
    ],
    ids=["transposed", "sliced", "expanded", "permuted", "overlapping"],
)
def test_any_strides(view):
    x = reference.values(6, 40, 10)
    there = view(on_card(x)[0])
    for dim in (0, 1, 2, (0, 2), (1, 2), None):
        for function in (torch.sum, torch.var):
            torch.testing.assert_close(function(there, dim=dim).cpu(), function(view(x), dim=dim), rtol=1e-5, atol=1e-4)
        if not isinstance(dim, tuple):
            assert torch.equal(torch.argmax(there, dim).cpu(), torch.argmax(view(x), dim))


def test_many_dimensions():
    x = reference.values(*[2] * 16)[..., ::2, :]
    there = on_card(x)[0]
    for dims in (tuple(range(0, 16, 2)), tuple(range(1, 16, 2))):
        torch.testing.assert_close(there.sum(dims).cpu(), x.sum(dims), rtol=1e-5, atol=1e-4)


def test_nan_and_first_of_equals():
    x = reference.values(4, 300).round()
    x[1, 200], x[1, 100], x[2, 7], x[3, 5] = torch.nan, torch.nan, torch.inf, -torch.inf
    there = on_card(x)[0]
    for got, want in zip(there.max(1), x.max(1), strict=True):
        torch.testing.assert_close(got.cpu(), want, equal_nan=True)
    for got, want in zip(there.min(0), x.min(0), strict=True):
        torch.testing.assert_close(got.cpu(), want, equal_nan=True)
    for function in (torch.argmax, torch.argmin, torch.amax, torch.amin):
        torch.testing.assert_close(function(there).cpu(), function(x), equal_nan=True)
        torch.testing.assert_close(function(there, 1).cpu(), function(x, 1), equal_nan=True)
    for order in (math.inf, -math.inf, 0, 1, 3.5):
        got = torch.linalg.vector_norm(there, order, 1)
        torch.testing.assert_close(got.cpu(), torch.linalg.vector_norm(x, order, 1), equal_nan=True)


def test_empty():
    there = on_card(torch.empty(0, 3))[0]
    assert there.sum().item() == 0
    assert there.prod(0).tolist() == [1, 1, 1]
    assert there.any(0).tolist() == [False] * 3
    assert there.all().item() is True
    assert there.mean(0).isnan().cpu().all()
    assert there.amax(1).shape == (0,)
    assert torch.linalg.vector_norm(there, 2, 0).tolist() == [0, 0, 0]


def test_variance_far_from_zero():
    x = reference.values(3, 50000) + 1e4
    for given in (x, x.t().contiguous().t()):
        got = [t.cpu() for t in torch.var_mean(on_card(given)[0], 1)]
        want = torch.var_mean(x.double(), 1)
        torch.testing.assert_close(got[0].double(), want[0], rtol=1e-4, atol=0)
        torch.testing.assert_close(got[1].double(), want[1], rtol=1e-6, atol=0)


def test_integers_are_exact():
    x = torch.arange(2**20, 2**20 + 40000, dtype=torch.int64) * 2**30
    assert on_card(x)[0].sum().item() == x.sum().item()
    small = reference.values(300, 200, dtype=torch.int8)
    assert torch.equal(on_card(small)[0].sum(0).cpu(), small.sum(0))
    assert on_card(small > 0)[0].sum().item() == (small > 0).sum().item()


def test_the_same_bits_each_time():
    x = on_card(reference.values(200000))[0]
    assert x.sum().item() == x.sum().item()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum(3),
        lambda x: x.sum((0, 0)),
        lambda x: x.int().mean(),
        lambda x: x[:0].amax(0),
        lambda x: x[:0].max(),
        lambda x: torch.amax(x, 0, out=x[0].double()),
        lambda x: torch.max(x, 5),
        lambda x: torch.linalg.vector_norm(x[:0], -1),
        lambda x: torch.linalg.vector_norm(x, dtype=torch.float16),
    ],
    ids=["dimension", "twice", "mean of integers", "amax of none", "max of none", "amax out", "max", "norm", "narrow"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(3, 4)
    with pytest.raises((RuntimeError, IndexError, ValueError)) as on_cpu:
        call(x)
    with pytest.raises(on_cpu.type) as on_the_card:
        call(x.to(CARD))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
