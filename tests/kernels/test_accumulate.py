"""Reductions by index alone in the emulator."""

import ctypes

import emulator
import numpy as np
import pytest

DIMS, INDICES = 5, 6
SUM, PRODUCT, MEAN, MAXIMUM, MINIMUM = range(5)
NAMES = {
    np.float32: "f32",
    np.float16: "f16",
    np.float64: "f64",
    np.int64: "i64",
    np.int32: "i32",
    np.int16: "i16",
    np.int8: "i8",
    np.uint8: "u8",
}


class KeysParams(ctypes.Structure):
    """KeysParams of csrc/kernels/accumulate.cuh."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("indices", ctypes.c_void_p * INDICES),
        *((name, ctypes.c_longlong * INDICES) for name in ("row_strides", "rows")),
        *((name, ctypes.c_longlong * DIMS) for name in ("strides", "index_strides")),
        ("skipped", ctypes.c_longlong),
        ("sizes", ctypes.c_uint * DIMS),
        ("size", ctypes.c_uint),
        ("count", ctypes.c_int),
        *((name, ctypes.c_bool) for name in ("wide", "wide_keys", "skips")),
    )


class Params(ctypes.Structure):
    """AccumulateParams."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "source", "order", "to")),
        ("from_stride", ctypes.c_longlong),
        *((name, ctypes.c_longlong * DIMS) for name in ("from_strides", "to_strides")),
        ("sizes", ctypes.c_uint * DIMS),
        *((name, ctypes.c_uint) for name in ("width", "count")),
        ("reduce", ctypes.c_int),
        *((name, ctypes.c_bool) for name in ("wide_keys", "with_self")),
    )


@pytest.mark.parametrize("key_type", [np.int32, np.int64])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_keys(index_type, key_type):
    rng = np.random.default_rng(0)
    first = emulator.buffer(rng.integers(-7, 7, (9, 40)).astype(index_type))
    second = emulator.buffer(rng.integers(-9, 9, (9, 40)).astype(index_type))
    keys = emulator.buffer(np.zeros((9, 40), key_type))
    p = KeysParams(
        keys.ctypes.data, size=keys.size, count=2, wide=index_type == np.int64, wide_keys=key_type == np.int64
    )
    p.indices[:2], p.row_strides[:2], p.rows[:2] = [first.ctypes.data, second.ctypes.data], [900, 100], [7, 9]
    p.sizes[:], p.strides[:], p.index_strides[:] = [1, 1, 1, 9, 40], [0, 0, 0, 2, 0], [0, 0, 0, 40, 1]
    p.skips, p.skipped = True, 3
    emulator.load(800).launch("compat_accumulate_keys", 2, 256, 0, p)
    want = first % 7 * 900 + second % 9 * 100 + 2 * np.arange(9)[:, None]
    assert np.array_equal(keys, np.where((first == 3) | (second == 3), -1, want))
    first[5, 7] = 7
    with pytest.raises(emulator.EmulatorError, match="__trap"):
        emulator.load(800).launch("compat_accumulate_keys", 2, 256, 0, p)


@pytest.mark.parametrize("with_self", [False, True])
@pytest.mark.parametrize("reduce", [SUM, PRODUCT, MEAN, MAXIMUM, MINIMUM])
@pytest.mark.parametrize("dtype", NAMES)
def test_reductions(dtype, reduce, with_self):
    rng, rows, count = np.random.default_rng(reduce), 6, 11
    to = emulator.buffer(rng.integers(1, 4, (rows, 3, 70)).astype(dtype))
    source = emulator.buffer(rng.integers(1, 4, (count, 3, 70)).astype(dtype))
    row = np.array([4, 0, 4, 2, 2, 4, 0, 5, 4, 2, 4]) if reduce != PRODUCT else np.arange(count) // 2
    keys = np.where(row == 5, -1, row * 210)
    order = emulator.buffer(np.argsort(keys, kind="stable"))
    keys = emulator.buffer(np.sort(keys))
    want = to.astype(np.float64)
    for r in set(row.tolist()) - {5}:
        all_of = [to[r].astype(np.float64)] * with_self + list(source[row == r].astype(np.float64))
        combine = {SUM: np.sum, PRODUCT: np.prod, MEAN: np.mean, MAXIMUM: np.max, MINIMUM: np.min}[reduce]
        want[r] = combine(np.stack(all_of), axis=0)
    if np.issubdtype(dtype, np.integer):
        want = np.floor(want)
    p = Params(keys.ctypes.data, source.ctypes.data, order.ctypes.data, to.ctypes.data, 210, width=210, count=count)
    p.sizes[:], p.from_strides[:], p.to_strides[:] = [1, 1, 1, 3, 70], [0, 0, 0, 70, 1], [0, 0, 0, 70, 1]
    p.reduce, p.wide_keys, p.with_self = reduce, True, with_self
    emulator.load(800).launch(f"compat_accumulate_{NAMES[dtype]}", 4, 256, 0, p)
    np.testing.assert_allclose(to, want.astype(dtype), rtol=1e-3 if dtype == np.float16 else 1e-6)


def test_not_a_number_stays():
    nan = float("nan")
    for reduce in (MAXIMUM, MINIMUM):
        for values in ([nan, 1, 2], [1, nan, 2], [1, 2, nan]):
            to, source = emulator.buffer(np.zeros(1, np.float32)), emulator.buffer(np.array(values, np.float32))
            keys, order = emulator.buffer(np.zeros(3, np.int64)), emulator.buffer(np.arange(3))
            p = Params(keys.ctypes.data, source.ctypes.data, order.ctypes.data, to.ctypes.data, 1, width=1, count=3)
            p.sizes[:], p.reduce, p.wide_keys = [1] * 5, reduce, True
            emulator.load(800).launch("compat_accumulate_f32", 1, 256, 0, p)
            assert np.isnan(to[0])
