"""cat alone in the emulator: strided pieces, units of every size, several blocks of a piece."""

import ctypes

import emulator
import numpy as np
import pytest

DIMS, PIECES, OF_BLOCK = 5, 32, 1024
TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}


class Piece(ctypes.Structure):
    """CatPiece of csrc/kernels/cat.cuh."""

    _fields_ = (
        ("source", ctypes.c_void_p),
        ("to", ctypes.c_void_p),
        ("from_strides", ctypes.c_longlong * DIMS),
        ("to_strides", ctypes.c_longlong * DIMS),
        ("sizes", ctypes.c_uint * DIMS),
        ("first_block", ctypes.c_uint),
    )


class Params(ctypes.Structure):
    """CatParams."""

    _fields_ = (("piece", Piece * PIECES), ("pieces", ctypes.c_int), ("dims", ctypes.c_int))


def run(card, pairs):
    """Copies from the second to the first of each pair of arrays."""
    p, blocks = Params(), 0
    for i, (to, source) in enumerate(pairs):
        assert to.shape == source.shape
        missing = DIMS - to.ndim
        piece = p.piece[i]
        piece.source, piece.to, piece.first_block = source.ctypes.data, to.ctypes.data, blocks
        piece.sizes[:] = [1] * missing + list(to.shape)
        piece.from_strides[:] = [0] * missing + [s // to.itemsize for s in source.strides]
        piece.to_strides[:] = [0] * missing + [s // to.itemsize for s in to.strides]
        blocks += -(-to.size // OF_BLOCK)
        p.dims = max(p.dims, to.ndim)
    p.pieces = len(pairs)
    card.launch(f"compat_cat_b{pairs[0][0].itemsize}", blocks, 256, 0, p)


@pytest.mark.parametrize("arch", [500, 800])
@pytest.mark.parametrize("element", TYPES)
def test_pieces(element, arch):
    values = np.random.default_rng(element)
    a = emulator.buffer(values.integers(1, 200, (3, 2, 5, 4, 40)).astype(TYPES[element]))
    b = emulator.buffer(values.integers(1, 200, (4, 3, 7)).astype(TYPES[element]))
    first, second = emulator.buffer(np.zeros_like(a)), emulator.buffer(np.zeros((3, 9, 4), TYPES[element]))
    reverse = np.transpose(b, (1, 2, 0))[:, ::-1]
    run(emulator.load(arch), [(first, a), (second[:, 1:8], reverse), (second[:, :1], reverse[:, 2:3])])
    assert np.array_equal(first, a)
    assert np.array_equal(second[:, 1:8], reverse)
    assert np.array_equal(second[:, 0], reverse[:, 2])
    assert not second[:, 8].any()


def test_a_piece_of_one_element_among_large_ones():
    large = emulator.buffer(np.arange(3000, dtype=np.uint32))
    to = emulator.buffer(np.zeros(6001, np.uint32))
    run(emulator.load(800), [(to[:3000], large), (to[3000:3001], large[7:8]), (to[3001:], large)])
    assert np.array_equal(to, np.concatenate([large, large[7:8], large]))
