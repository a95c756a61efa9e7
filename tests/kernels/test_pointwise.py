"""The pointwise kernels as the emulator runs them, in memory that ends where the tensors end."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import ceil_div, guarded

THREADS, ELEMENTS, DIMS = 256, 4, 8
DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
}
KINDS = {dtype: kind for kind, dtype in enumerate(DTYPES.values())} | {torch.bool: 9}


class Number(ctypes.Structure):
    _fields_ = (("real", ctypes.c_double), ("imag", ctypes.c_double), ("integer", ctypes.c_longlong))


class Params(ctypes.Structure):
    """PointwiseParams of csrc/kernels/pointwise.cuh."""

    _fields_ = (
        ("data", ctypes.c_void_p * 4),
        ("immediate", Number * 3),
        ("scalar", Number * 3),
        ("kind", ctypes.c_int * 4),
        ("stride", ctypes.c_int * DIMS * 4),
        ("extent", ctypes.c_int * DIMS),
        ("by_extent", ctypes.c_uint * DIMS),
        *((name, ctypes.c_int) for name in ("size", "dims")),
        ("packs", ctypes.c_bool),
    )


@pytest.fixture(scope="module", params=[500, 800])
def card(request):
    return emulator.load(request.param)


def run(card, op, out, inputs, packs=False, scalars=()):
    """`out` = op(inputs), of the sizes of `out`; a number among the inputs goes by value."""
    first = next(t for t in inputs if isinstance(t, torch.Tensor) and t.dtype != torch.bool)
    dtype = next(name for name, of_torch in DTYPES.items() if of_torch == first.dtype)
    p = Params(size=out.numel(), dims=out.dim(), packs=packs)
    size = first.element_size()
    width = 8 if size == 1 else 16 // size
    for d, extent in enumerate(reversed(out.shape)):
        if packs and d == 0 and out.dim() > 1:
            assert extent % width == 0
            extent //= width
        p.extent[d], p.by_extent[d] = extent, 0xFFFFFFFF // extent
    for k, t in enumerate([out, *inputs]):
        if isinstance(t, torch.Tensor):
            p.data[k], p.kind[k] = t.data_ptr(), KINDS[t.dtype]
            for d, stride in enumerate(t.expand(out.shape).stride()[::-1]):
                p.stride[k][d] = stride * t.element_size()
        else:
            p.immediate[k - 1] = Number(t, 0, int(t))
    for i, value in enumerate(scalars):
        p.scalar[i] = Number(value, 0, int(value))
    of_thread = (4 if len(inputs) == 1 else 2) * width if packs else ELEMENTS
    card.launch(f"compat_pointwise_{op}_{dtype}", ceil_div(out.numel(), of_thread * THREADS), THREADS, 0, p)
    return out


def empty(*size, dtype=torch.float32):
    return guarded(torch.full(size, 77, dtype=dtype))


def filled(*size, dtype=torch.float32, seed=0):
    return guarded((reference.values(*size, seed=seed) * 9).to(dtype))


def assert_right(out, function, *inputs):
    """As exact as torch's own, against float64; integers to the bit."""
    want = function(*inputs)
    if out.is_floating_point():
        reference.assert_as_accurate(out, want, function(*(t.double() for t in inputs)))
    else:
        assert torch.equal(out, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 16, 4096, 5003])
def test_dense(card, dtype, size):
    a, b = (filled(size, dtype=DTYPES[dtype], seed=seed) for seed in (0, 1))
    out = run(card, "add", empty(size, dtype=DTYPES[dtype]), [a, b], packs=True, scalars=[3])
    assert_right(out, lambda *t: torch.add(*t, alpha=3), a, b)


@pytest.mark.parametrize("size", [3, 2049])
def test_dense_comparison_with_a_number(card, size):
    a = filled(size)
    out = run(card, "lt", guarded(torch.zeros(size, dtype=torch.int8)).view(torch.bool), [a, 2.5], packs=True)
    assert torch.equal(out, a < 2.5)


def test_nan_is_the_maximum(card):
    a, b = filled(300), filled(300, seed=1)
    a[::3] = b[::5] = float("nan")
    torch.testing.assert_close(
        run(card, "maximum", empty(300), [a, b]), torch.maximum(a, b), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [5, 4096, 16400])
def test_dense_of_one_operand(card, dtype, size):
    a = filled(size, dtype=DTYPES[dtype])
    assert torch.equal(run(card, "copy", empty(size, dtype=DTYPES[dtype]), [a], packs=True), a)


LINES = {
    "bias": [(70, 16), (16,)],
    "of a row": [(9, 5, 32), (9, 5, 1)],
    "of a channel": [(3, 5, 16), (5, 1)],
    "same": [(40, 64), (40, 64)],
    "one value": [(40, 64), (1,)],
}


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i64", "u8"])
@pytest.mark.parametrize("sizes", LINES.values(), ids=LINES)
def test_lines_of_vectors(card, dtype, sizes):
    a, b = (filled(*size, dtype=DTYPES[dtype], seed=seed) for seed, size in enumerate(sizes))
    out = run(card, "add", empty(*sizes[0], dtype=DTYPES[dtype]), [a, b], packs=True, scalars=[3])
    assert_right(out, lambda *t: torch.add(*t, alpha=3), a, b)


def test_lines_of_vectors_that_are_parts_of_longer_ones(card):
    whole, result = filled(7, 9, 48), empty(7, 9, 32)
    out = run(card, "mul", result[..., 16:], [whole[..., :16], whole[..., 32:]], packs=True)
    assert torch.equal(out, whole[..., :16] * whole[..., 32:])
    assert (result[..., :16] == 77).all()


@pytest.mark.parametrize("of", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [(6, 40), (243,)], ids=str)
def test_vectors_of_other_dtypes(card, of, sizes):
    narrow, wide = filled(*sizes, dtype=of), filled(*sizes, seed=1)
    assert torch.equal(run(card, "copy", empty(*sizes), [narrow], packs=True), narrow.float())
    assert torch.equal(run(card, "copy", empty(*sizes, dtype=of), [wide], packs=True), wide.to(of))
    assert torch.equal(run(card, "mul", empty(*sizes), [wide, narrow], packs=True), wide * narrow.float())
    assert torch.equal(
        run(card, "mul", empty(*sizes), [wide, narrow[..., :1]], packs=True), wide * narrow[..., :1].float()
    )


@pytest.mark.parametrize("dtype", ["f32", "bf16", "i64"])
def test_vectors_chosen_by_a_mask(card, dtype):
    a, b = (filled(3, 5, 16, dtype=DTYPES[dtype], seed=seed) for seed in (0, 1))
    for mask in (filled(3, 5, 16, seed=2) > 0, filled(5, 1, seed=3) > 0):
        of_card = guarded(mask.to(torch.uint8)).view(torch.bool)
        out = run(card, "where", empty(3, 5, 16, dtype=DTYPES[dtype]), [of_card, a, b], packs=True)
        assert torch.equal(out, torch.where(mask, a, b))


SHAPES = {
    "broadcast": [(5, 1, 7), (1, 6, 7), (1,)],
    "one": [(1,), (1,), (1,)],
    "many": [(40, 33, 3), (33, 1), (40, 1, 3)],
}


@pytest.mark.parametrize("dtype", ["f32", "bf16", "i64"])
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_broadcast(card, dtype, sizes):
    a, b, c = (filled(*size, dtype=DTYPES[dtype], seed=seed) for seed, size in enumerate(sizes))
    size = torch.broadcast_shapes(*sizes)
    out = run(card, "addcmul", empty(*size, dtype=DTYPES[dtype]), [a, b, c], scalars=[2])
    assert_right(out, lambda *t: torch.addcmul(*t, value=2), a, b, c)


def test_strides_and_a_result_of_another_dtype(card):
    a = filled(9, 11).t()
    whole = empty(11, 18, dtype=torch.float64)
    out = run(card, "copy", whole[:, ::2], [a])
    assert torch.equal(out, a.double())
    assert (whole[:, 1::2] == 77).all()


@pytest.mark.parametrize("of", [torch.float16, torch.int8, torch.int64, torch.float64], ids=str)
def test_operands_of_other_dtypes(card, of):
    a, b = filled(6, 5), filled(6, 5, dtype=of, seed=1)
    torch.testing.assert_close(run(card, "mul", empty(6, 5), [a, b]), a * b.float())


def test_numbers_among_strided_operands(card):
    a, b = filled(9, 11).t(), filled(9, 11, seed=1).t()
    torch.testing.assert_close(run(card, "addcmul", empty(11, 9), [a, 2.5, -3.0], scalars=[2]), a - 15)
    torch.testing.assert_close(run(card, "addcmul", empty(11, 9), [a, b, -3.0], scalars=[2]), a - 6 * b)
