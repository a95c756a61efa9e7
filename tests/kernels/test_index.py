"""index and nonzero alone in the emulator."""

import ctypes

import emulator
import numpy as np
import pytest

DIMS, INDICES, OF_BLOCK, TILE = 5, 6, 1024, 4096
TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}


class Params(ctypes.Structure):
    """IndexParams of csrc/kernels/index.cuh."""

    _fields_ = (
        ("to", ctypes.c_void_p),
        ("source", ctypes.c_void_p),
        ("indices", ctypes.c_void_p * INDICES),
        ("row_strides", ctypes.c_longlong * INDICES),
        ("rows", ctypes.c_longlong * INDICES),
        ("to_strides", ctypes.c_longlong * DIMS),
        ("from_strides", ctypes.c_longlong * DIMS),
        ("index_strides", ctypes.c_longlong * DIMS),
        ("sizes", ctypes.c_uint * DIMS),
        ("size", ctypes.c_uint),
        ("dims", ctypes.c_int),
        ("count", ctypes.c_int),
        ("wide", ctypes.c_bool),
        ("value", ctypes.c_uint * 4),
    )


class NonzeroParams(ctypes.Structure):
    """NonzeroParams of csrc/kernels/nonzero.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("source", "counts", "to")),
        *((name, ctypes.c_longlong) for name in ("size", "total", "tiles")),
        ("mask", ctypes.c_ulonglong),
        ("sizes", ctypes.c_longlong * 12),
        ("dims", ctypes.c_int),
    )


def strides(array, dims=DIMS):
    return [0] * (dims - array.ndim) + [s // array.itemsize for s in array.strides]


def launch(card, table, indices, values, writes):
    """values = table[indices], or the reverse; indices for the first dimensions of the table."""
    p = Params(size=values.size, dims=values.ndim, count=len(indices), wide=indices[0].dtype == np.int64)
    p.sizes[:] = [1] * (DIMS - values.ndim) + list(values.shape)
    of_table = [0] * indices[0].ndim + strides(table, table.ndim)[len(indices) :]
    of_table = [0] * (DIMS - len(of_table)) + of_table
    p.index_strides[:] = (
        [0] * (DIMS - values.ndim) + strides(indices[0], indices[0].ndim) + [0] * (values.ndim - indices[0].ndim)
    )
    for k, index in enumerate(indices):
        p.indices[k], p.rows[k] = index.ctypes.data, table.shape[k]
        p.row_strides[k] = table.strides[k] // table.itemsize
    p.to, p.source = (table.ctypes.data, values.ctypes.data) if writes else (values.ctypes.data, table.ctypes.data)
    p.to_strides[:], p.from_strides[:] = (of_table, strides(values)) if writes else (strides(values), of_table)
    name = f"compat_index_{'write' if writes else 'read'}_b{table.itemsize}"
    card.launch(name, -(-values.size // OF_BLOCK), 256, 0, p)


@pytest.mark.parametrize("arch", [500, 800])
@pytest.mark.parametrize("index_type", [np.int64, np.int32])
@pytest.mark.parametrize("element", TYPES)
def test_reads_and_writes(element, index_type, arch):
    rng, card = np.random.default_rng(element), emulator.load(arch)
    table = emulator.buffer(rng.integers(1, 250, (7, 9, 31)).astype(TYPES[element]))
    places = rng.permutation(7 * 9)[:40].reshape(5, 8)
    indices = [emulator.buffer((places // 9 - 7).astype(index_type)), emulator.buffer((places % 9).astype(index_type))]
    values = emulator.buffer(np.zeros((5, 8, 31), TYPES[element]))
    launch(card, table, indices, values, writes=False)
    assert np.array_equal(values, table[indices[0], indices[1]])
    into = emulator.buffer(np.zeros_like(table))
    launch(card, into, indices, values, writes=True)
    want = np.zeros_like(table)
    want[indices[0], indices[1]] = values
    assert np.array_equal(into, want)


@pytest.mark.parametrize("wrong", [4, -5, 2**40, -(2**40)])
@pytest.mark.parametrize("writes", [False, True])
def test_an_index_out_of_range_ends_the_launch(writes, wrong):
    table, values = emulator.buffer(np.zeros(4, np.uint32)), emulator.buffer(np.zeros(3, np.uint32))
    with pytest.raises(emulator.EmulatorError, match="__trap"):
        launch(emulator.load(800), table, [emulator.buffer(np.array([0, wrong, 1]))], values, writes)


@pytest.mark.parametrize(
    ("dtype", "mask"),
    [
        (np.bool_, 0xFF),
        (np.float16, 0x7FFF),
        (np.float32, 0x7FFFFFFF),
        (np.float64, 2**63 - 1),
        (np.complex64, 0x7FFFFFFF7FFFFFFF),
        (np.complex128, 2**63 - 1),
    ],
)
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (2, 1, 3000), (0,), (90, 100)])
def test_nonzero(shape, dtype, mask):
    rng, card = np.random.default_rng(1), emulator.load(800)
    values = rng.choice([0, 0, 1, 3], shape).astype(dtype)
    if dtype != np.bool_:
        values[values == 1] = -0.0
    source = emulator.buffer(values)
    tiles = -(-values.size // TILE)
    counts = emulator.buffer(np.zeros(tiles + 1, np.int64))
    p = NonzeroParams(source.ctypes.data, counts.ctypes.data, None, values.size, 0, tiles, mask, dims=len(shape))
    p.sizes[: len(shape)] = shape
    if not tiles:
        return
    card.launch(f"compat_nonzero_count_b{values.itemsize}", tiles, 256, 64, p)
    card.launch("compat_nonzero_sum", 1, 256, 2048, p)
    p.total = int(counts[-1])
    to = emulator.buffer(np.zeros((len(shape), p.total), np.int64))
    p.to = to.ctypes.data
    card.launch(f"compat_nonzero_write_b{values.itemsize}", tiles, 256, 64, p)
    assert np.array_equal(to, np.array(np.nonzero(values)))


def test_sums_of_more_tiles_than_threads():
    counts = emulator.buffer(np.append(np.arange(1000), -1))
    p = NonzeroParams(counts=counts.ctypes.data, tiles=1000)
    emulator.load(800).launch("compat_nonzero_sum", 1, 256, 2048, p)
    assert np.array_equal(counts, np.append(0, np.cumsum(np.arange(1000))))
