"""The reductions' kernels as the emulator runs them, against float64: no card, no torch of CUDA."""

import ctypes
import math

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded

THREADS, DIMS, SHARED_BYTES, STATE_BYTES = 256, 6, 256 * 32, 32
KINDS = {name: i for i, name in enumerate(("plain", "mean", "max", "min", "any", "all", "var", "std", "rstd"))}
NORMS = {1: 0, 2: 1, 0: 2, 3.5: 3, math.inf: 4, -math.inf: 5}
NAMES = {
    **{dtype: name for name, dtype in DTYPES.items()},
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
    torch.bool: "u8",
}


class Dims(ctypes.Structure):
    """ReduceDims of csrc/kernels/reduce.cuh."""

    _fields_ = (
        ("size", ctypes.c_longlong * DIMS),
        ("stride", ctypes.c_longlong * DIMS),
        ("count", ctypes.c_int),
    )


class Params(ctypes.Structure):
    """ReduceParams of csrc/kernels/reduce.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in_", "out", "second", "partial")),
        *((name, ctypes.c_longlong) for name in ("outputs", "n", "part", "output_blocks")),
        *((name, Dims) for name in ("kept", "reduced")),
        *((name, ctypes.c_double) for name in ("order", "correction")),
        *((name, ctypes.c_int) for name in ("lanes", "splits", "ignored_bits", "kind", "norm")),
        *((name, ctypes.c_bool) for name in ("combines", "across", "packs", "wide")),
    )


@pytest.fixture(scope="module")
def card():
    return emulator.load(800)


def dims_of(x: torch.Tensor, dims: list[int]) -> Dims:
    """Innermost first."""
    found = Dims(count=len(dims))
    for i, d in enumerate(sorted(dims, reverse=True)):
        found.size[i], found.stride[i] = x.shape[d], x.stride(d)
    return found


def run(card, kernel, x, dims, out=None, second=None, *, lanes=8, splits=1, across=False, packs=False, **what):
    """Into `out` and `second`, which are dense."""
    kept = [d for d in range(x.dim()) if d not in dims]
    p = Params(in_=x.data_ptr(), kept=dims_of(x, kept), reduced=dims_of(x, dims), lanes=lanes, **what)
    p.outputs, p.n = math.prod(x.shape[d] for d in kept), math.prod(x.shape[d] for d in dims)
    p.out, p.second = (None if t is None else t.data_ptr() for t in (out, second))
    pack = 16 // x.element_size() if packs else 1
    p.part = max(1, ceil_div(ceil_div(p.n, splits), pack)) * pack
    p.splits = max(1, ceil_div(p.n, p.part))
    p.across, p.packs, p.output_blocks = across, packs, ceil_div(p.outputs, THREADS // lanes)
    partial = emulator.buffer(bytearray(p.splits * p.outputs * STATE_BYTES))
    p.partial = partial.ctypes.data
    card.launch(kernel, p.output_blocks * p.splits, THREADS, SHARED_BYTES, p)
    if p.splits > 1:
        p.combines = True
        card.launch(kernel, p.output_blocks, THREADS, SHARED_BYTES, p)


def made(kernel, card, x, dims, dtype=None, **what):
    shape = [size for d, size in enumerate(x.shape) if d not in dims]
    out = guarded(torch.full(shape, 77, dtype=dtype or x.dtype))
    run(card, f"compat_reduce_{kernel}_{NAMES[x.dtype]}", x, dims, out, **what)
    return out


LAYOUTS = {  # the tensor, the dimensions, how it is launched
    "rows": (lambda x: x.reshape(30, 128), [1], {"lanes": 16}),
    "rows in packs": (lambda x: x.reshape(30, 128), [1], {"lanes": 4, "packs": True}),
    "packs that are left": (lambda x: x.reshape(24, 160), [1], {"lanes": 4, "packs": True}),
    "odd rows": (lambda x: x[:3835].reshape(65, 59), [1], {"lanes": 2}),
    "one thread a row": (lambda x: x[:3837].reshape(1279, 3), [1], {"lanes": 1}),
    "columns": (lambda x: x[:3835].reshape(59, 65), [0], {"lanes": 8, "across": True}),
    "columns in parts": (lambda x: x[:3835].reshape(59, 65), [0], {"lanes": 4, "across": True, "splits": 5}),
    "all": (lambda x: x, [0], {"lanes": 256, "splits": 3}),
    "all in packs": (lambda x: x, [0], {"lanes": 256, "splits": 3, "packs": True}),
    "between": (lambda x: x.reshape(4, 8, 12, 10), [1, 3], {"lanes": 8}),
    "with strides": (lambda x: x.reshape(16, 24, 10)[::3, 1::2, 2:9].transpose(0, 2), [0, 1], {"lanes": 32}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums(card, dtype, layout):
    view, dims, how = LAYOUTS[layout]
    x = view(guarded(reference.values(3840, dtype=DTYPES[dtype])))
    want, size = x.double().sum(dims), x.double().abs().sum(dims)
    for kind, divisor in (("plain", 1), ("mean", x.numel() // want.numel())):
        got = made("sum", card, x, dims, kind=KINDS[kind], **how)
        reference.assert_rounded(got, want / divisor, size / divisor)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool], ids=str)
@pytest.mark.parametrize("layout", ["rows in packs", "columns", "all"])
def test_sums_of_integers(card, dtype, layout):
    view, dims, how = LAYOUTS[layout]
    x = reference.values(3840, dtype=torch.int64)
    x = view(guarded((x > 0).to(dtype) if dtype == torch.bool else (x * 1000).to(dtype)))
    assert torch.equal(made("sum", card, x, dims, torch.int64, wide=True, **how), x.sum(dims))


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_float32_of_half_precision(card, dtype):
    x = guarded(reference.values(30, 128, dtype=DTYPES[dtype]))
    got = made("sum", card, x, [1], torch.float32, lanes=4, packs=True, wide=True)
    torch.testing.assert_close(got, x.float().sum(1))


@pytest.mark.parametrize("layout", ["rows in packs", "odd rows", "columns in parts", "all"])
@pytest.mark.parametrize(("dtype", "shift"), [*((dtype, 2) for dtype in DTYPES), ("f32", 1e4)])
def test_variances(card, dtype, shift, layout):
    view, dims, how = LAYOUTS[layout]
    x = view(guarded((reference.values(3840, dtype=torch.float64) + shift).to(DTYPES[dtype])))
    mean = guarded(torch.full_like(x.sum(dims), 77))
    limit = 8 * torch.finfo(x.dtype).eps
    for kind, want in {
        "var": x.double().var(dims, correction=2),
        "std": x.double().std(dims, correction=2),
        "rstd": (x.double().var(dims, correction=0) + 2).rsqrt(),
    }.items():
        got = made("var", card, x, dims, kind=KINDS[kind], correction=2, second=mean, **how)
        torch.testing.assert_close(got.double(), want, rtol=limit, atol=0)
        torch.testing.assert_close(mean.double(), x.double().mean(dims), rtol=limit, atol=0)


@pytest.mark.parametrize(
    "layout", ["rows in packs", "packs that are left", "odd rows", "columns in parts", "all", "between"]
)
@pytest.mark.parametrize("dtype", [*DTYPES.values(), torch.int64, torch.int32, torch.uint8], ids=str)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_extremes(card, kind, dtype, layout):
    view, dims, how = LAYOUTS[layout]
    x = view(guarded((reference.values(3840) * 3).round().abs().to(dtype)))
    shape = [size for d, size in enumerate(x.shape) if d not in dims]
    values, places = guarded(torch.zeros(shape, dtype=dtype)), guarded(torch.zeros(shape, dtype=torch.int64))
    run(card, f"compat_reduce_extreme_{NAMES[dtype]}", x, dims, values, places, kind=KINDS[kind], **how)
    rows = x.movedim(dims, list(range(-len(dims), 0))).flatten(len(shape))
    want = (rows.amax if kind == "max" else rows.amin)(-1)
    assert torch.equal(values, want)
    first = (rows == want[..., None]).int().argmax(-1)
    assert torch.equal(places, first)


def test_nan_comes_first(card):
    x = guarded(reference.values(6, 500))
    x[1, 300], x[1, 200], x[2, 0], x[3, 499] = (torch.nan,) * 4
    for kind, splits in (("max", 1), ("min", 4)):
        places = guarded(torch.zeros(6, dtype=torch.int64))
        run(card, "compat_reduce_extreme_f32", x, [1], None, places, lanes=32, splits=splits, kind=KINDS[kind])
        assert places[1:4].tolist() == [200, 0, 499]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64, torch.int64], ids=str)
@pytest.mark.parametrize("layout", ["rows in packs", "columns in parts"])
def test_truth(card, dtype, layout):
    view, dims, how = LAYOUTS[layout]
    bits = {1: "u8", 2: "i16", 4: "i32", 8: "i64"}[dtype.itemsize]
    for values in (torch.zeros(3840), -torch.zeros(3840), torch.ones(3840)):
        x = values.clone()
        x[[5, 77, 1000]] = 1 - x[[5, 77, 1000]].abs()
        x = view(guarded(x.to(dtype)))
        for kind, want in (("any", (x != 0).sum(dims) > 0), ("all", (x == 0).sum(dims) == 0)):
            out = guarded(torch.full(want.shape, 77, dtype=torch.uint8))
            floating = int(dtype.is_floating_point)
            kernel = f"compat_reduce_truth_{bits}"
            run(card, kernel, x, dims, out, kind=KINDS[kind], ignored_bits=floating, **how)
            assert torch.equal(out, want.to(torch.uint8))


@pytest.mark.parametrize("order", NORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows in packs", "columns in parts"])
def test_norms(card, layout, dtype, order):
    view, dims, how = LAYOUTS[layout]
    x = view(guarded(reference.values(3840, dtype=DTYPES[dtype])))
    got = made("norm", card, x, dims, norm=NORMS[order], order=order, **how)
    want = torch.linalg.vector_norm(x.double(), order, dims)
    torch.testing.assert_close(got.double(), want, rtol=4 * torch.finfo(x.dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [*DTYPES.values(), torch.int64], ids=str)
def test_products(card, dtype):
    x = guarded(
        (1 + reference.values(40, 50) / 8).to(dtype) if dtype.is_floating_point else reference.values(40, 50).long()
    )
    for splits in (1, 3):
        got = made("prod", card, x, [1], lanes=8, splits=splits)
        if dtype == torch.int64:
            assert torch.equal(got, x.prod(1))
        else:
            torch.testing.assert_close(got.double(), x.double().prod(1), rtol=8 * torch.finfo(dtype).eps, atol=0)


def test_nothing_to_reduce(card):
    x = guarded(torch.zeros(1)).expand(5, 1)[:, :0]
    assert made("sum", card, x, [1], lanes=1).tolist() == [0] * 5
    assert made("prod", card, x, [1], lanes=1).tolist() == [1] * 5
    assert made("var", card, x, [1], lanes=1, kind=KINDS["var"]).isnan().all()
