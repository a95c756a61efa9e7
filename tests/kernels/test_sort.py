"""Sorting alone in the emulator, against numpy's stable sort."""

import ctypes

import emulator
import numpy as np
import pytest

DIMS, SMALL, TILE = 4, 2048, 2048
KINDS = [np.float32, np.float64, np.float16, None, np.uint8, np.int8, np.int16, np.int32, np.int64]
RANGE, MEDIAN, MEDIAN_OF_NUMBERS = range(3)


class Params(ctypes.Structure):
    """SortParams of csrc/kernels/sort.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("source", "values", "indices")),
        *((name, ctypes.c_longlong) for name in ("stride", "to_stride")),
        *((name, ctypes.c_longlong * DIMS) for name in ("strides", "to_strides")),
        ("sizes", ctypes.c_uint * DIMS),
        *((name, ctypes.c_uint) for name in ("rows", "size", "first", "kept")),
        *((name, ctypes.c_int) for name in ("kind", "pick")),
        ("descending", ctypes.c_bool),
        *((name, ctypes.c_uint) for name in ("padded", "rows_of_block")),
        *((name, ctypes.c_void_p) for name in ("keys", "keys_to", "places", "places_to", "counts")),
        ("tiles", ctypes.c_uint),
        ("shift", ctypes.c_int),
    )


def run(source, kind, first=0, kept=None, descending=False, pick=RANGE, rows_of_block=1):
    """Values and indices of the rows of a two-dimensional array."""
    card = emulator.load(800)
    rows, size = source.shape
    kept = size if kept is None else kept
    values = emulator.buffer(np.zeros((rows, kept), source.dtype))
    indices = emulator.buffer(np.full((rows, kept), -1, np.int64))
    p = Params(source.ctypes.data, values.ctypes.data, indices.ctypes.data, source.strides[1] // source.itemsize, 1)
    p.sizes[:], p.strides[3], p.to_strides[3] = [1, 1, 1, rows], source.strides[0] // source.itemsize, kept
    p.rows, p.size, p.first, p.kept, p.kind, p.pick, p.descending = rows, size, first, kept, kind, pick, descending
    if size <= SMALL:
        p.padded = 1 << (size - 1).bit_length()
        p.rows_of_block = min(rows_of_block, SMALL // p.padded)
        card.launch("compat_sort_small", -(-rows // p.rows_of_block), 256, SMALL * 12, p)
        return values, indices
    wide = source.itemsize == 8
    keys = emulator.buffer(np.zeros((2, rows, size), np.uint64 if wide else np.uint32))
    places = emulator.buffer(np.zeros((2, rows, size), np.uint32))
    p.tiles = -(-size // TILE)
    counts = emulator.buffer(np.zeros((rows, p.tiles, 256), np.uint32))
    p.counts, suffix = counts.ctypes.data, "b8" if wide else "b4"
    turn = [0]

    def flip():
        p.keys, p.places = keys[1 - turn[0]].ctypes.data, places[1 - turn[0]].ctypes.data
        p.keys_to, p.places_to = keys[turn[0]].ctypes.data, places[turn[0]].ctypes.data
        turn[0] = 1 - turn[0]

    flip()
    card.launch(f"compat_sort_begin_{suffix}", -(-rows * size // 256), 256, 0, p)
    for digit in range(source.itemsize):
        flip()
        p.shift = 8 * digit
        card.launch(f"compat_sort_count_{suffix}", rows * p.tiles, 256, 1024, p)
        card.launch("compat_sort_sum", rows, 256, 1024, p)
        card.launch(f"compat_sort_move_{suffix}", rows * p.tiles, 256, 8192, p)
    flip()
    card.launch(f"compat_sort_end_{suffix}", -(-rows * kept // 256), 256, 0, p)
    return values, indices


def numbers(shape, dtype):
    rng = np.random.default_rng(shape[1])
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    values = (rng.integers(-50, 50, shape) / 4).astype(dtype)
    special = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], shape).astype(dtype)
    return np.where(rng.random(shape) < 0.1, special, values).astype(dtype)


def order_of(values, descending):
    """Stable; NaN is the largest, 0.0 equals -0.0."""
    if not descending:
        return np.argsort(values, kind="stable", axis=1)
    reverse = np.argsort(values[:, ::-1], kind="stable", axis=1)[:, ::-1]
    return values.shape[1] - 1 - reverse


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [d for d in KINDS if d])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 37), (2, 1000), (2, 2049), (1, 5000)])
def test_sorts(shape, dtype, descending):
    source = emulator.buffer(numbers(shape, dtype))
    values, indices = run(source, KINDS.index(dtype), descending=descending, rows_of_block=4)
    want = order_of(source, descending)
    assert np.array_equal(indices, want)
    wanted = np.take_along_axis(source, want, 1)
    assert values.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("size", [900, 3000])
def test_parts_of_strided_rows(size):
    source = emulator.buffer(numbers((size, 3), np.float32)).T
    values, indices = run(source, 0, first=5, kept=7, descending=True)
    want = order_of(source, True)[:, 5:12]
    assert np.array_equal(indices, want)
    assert np.array_equal(values, np.take_along_axis(source, want, 1), equal_nan=True)


@pytest.mark.parametrize("size", [8, 9, 3001])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_medians(size, dtype):
    rows = numbers((4, size), dtype)
    if dtype == np.float32:
        rows = np.nan_to_num(rows, nan=1)
        rows[1, size // 2] = np.nan
        rows[2] = np.nan
    source = emulator.buffer(rows)
    order, kind = order_of(rows, False), KINDS.index(dtype)
    nans = np.isnan(rows).sum(1)
    whole = np.where(nans, size - nans, (size - 1) // 2)
    of_numbers = np.maximum((size - nans - 1) // 2, 0)
    for pick, places in ((MEDIAN, whole), (MEDIAN_OF_NUMBERS, of_numbers)):
        _, indices = run(source, kind, kept=1, pick=pick)
        assert np.array_equal(indices[:, 0], order[np.arange(4), places])
