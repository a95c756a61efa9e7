"""The generator and the distributions alone in the emulator, against numpy."""

import ctypes
import itertools

import emulator
import numpy as np
import philox
import pytest

UNIFORM, NORMAL, EXPONENTIAL, CAUCHY, GEOMETRIC, LOG_NORMAL, BERNOULLI, BITS = range(8)
CELLS = [np.float32, np.float64, np.float16, None, np.uint8, np.int8, np.int16, np.int32, np.int64, np.bool_]
SEED = 0x1234567890ABCDEF


class Params(ctypes.Structure):
    """RandomParams of csrc/kernels/random.cuh."""

    _fields_ = (
        ("to", ctypes.c_void_p),
        *((name, ctypes.c_ulonglong) for name in ("seed", "offset")),
        ("size", ctypes.c_longlong),
        *((name, ctypes.c_double) for name in ("a", "b", "end")),
        ("range", ctypes.c_ulonglong),
        ("base", ctypes.c_longlong),
        *((name, ctypes.c_int) for name in ("drawn", "cell")),
        ("wide", ctypes.c_bool),
    )


class DropoutParams(ctypes.Structure):
    """DropoutParams."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("source", "to", "mask")),
        *((name, ctypes.c_ulonglong) for name in ("seed", "offset")),
        ("size", ctypes.c_longlong),
        *((name, ctypes.c_float) for name in ("keep", "scale")),
        *((name, ctypes.c_double) for name in ("wide_keep", "wide_scale")),
        ("width", ctypes.c_int),
    )


class ChancesParams(ctypes.Structure):
    """ChancesParams."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("to", "chances")),
        *((name, ctypes.c_ulonglong) for name in ("seed", "offset")),
        ("size", ctypes.c_longlong),
        ("cell", ctypes.c_int),
    )


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, (2**32 - 1, 2**32 - 1), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_reference_gives_the_known_answers(counter, key, want):
    """kat_vectors of Random123."""
    assert " ".join(f"{v:08x}" for v in philox.philox(np.array([counter]), key)[0]) == want


def run(kernel, size, dtype, grid=2, **options):
    to = emulator.buffer(np.zeros(size, dtype))
    p = Params(to=to.ctypes.data, size=size, seed=SEED, cell=CELLS.index(dtype), **options)
    emulator.load(800).launch(f"compat_random_{kernel}", grid, 256, 0, p)
    return to


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("offset", [0, 4, 2**36 - 4])
@pytest.mark.parametrize("size", [1, 513, 5000])
def test_bits(size, offset, wide):
    want = philox.bits(size, 2, SEED, offset, 2 if wide else 4)
    assert np.array_equal(run("bits", size, np.int64, drawn=BITS, offset=offset, wide=wide), want.astype(np.int64))
    for dtype in (np.uint8, np.int16, np.int32, np.bool_, np.float32, np.float16):
        got = run("bits", size, dtype, drawn=BITS, offset=offset, wide=wide, range=100, base=-3)
        assert np.array_equal(got, ((want % 100).astype(np.int64) - 3).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("size", [1, 3000])
def test_distributions(size, dtype):
    wide = dtype == np.float64
    kernel = "f64" if wide else "f32"
    working = np.float64 if wide else np.float32
    drawn = philox.uniform(philox.bits(size, 2, SEED, 8, 2 if wide else 4)).astype(np.float64)
    normal = philox.normal(size, 2, SEED, 8, 2 if wide else 4)
    eps = np.finfo(working).eps
    cases = {
        UNIFORM: ({"a": -1.0, "b": 3.0, "end": 2.0}, np.where((drawn * 3 - 1).astype(dtype) == 2, -1, drawn * 3 - 1)),
        NORMAL: ({"a": 0.5, "b": 2.0}, normal * 2 + 0.5),
        LOG_NORMAL: ({"a": 0.5, "b": 0.25}, np.exp(normal * 0.25 + 0.5)),
        EXPONENTIAL: ({"a": 2.0}, np.where(drawn >= 1 - eps / 2, eps / 2, -np.log(drawn)) / 2),
        CAUCHY: ({"a": 1.0, "b": 0.5}, 1 + 0.5 * np.tan(np.pi * (np.clip(drawn, eps, 1 - eps) - 0.5))),
        GEOMETRIC: ({"a": 0.25}, np.ceil(np.log(drawn) / np.log1p(-0.25))),
        BERNOULLI: ({"a": 0.25}, drawn < 0.25),
    }
    for kind, (options, want) in cases.items():
        got = run(kernel, size, dtype, drawn=kind, offset=8, **options)
        np.testing.assert_allclose(got, want.astype(dtype), rtol=4e-3 if dtype == np.float16 else 2e-4, atol=1e-5)


def test_the_end_of_an_interval_becomes_its_begin():
    """In float16 many numbers of (0, 1] round to 1."""
    got = run("f32", 20000, np.float16, drawn=UNIFORM, a=0.0, b=1.0, end=1.0)
    assert got.max() < 1
    assert (got == 0).any()


@pytest.mark.parametrize(
    ("size", "width", "dtype"),
    [
        *itertools.product([4000], [4, 2, 1], [np.float32, np.float16, np.float64]),
        *[(16000, 8, np.float16), (4002, 2, np.float32), (2, 2, np.float64), (4001, 1, np.float32), (1, 1, np.float16)],
    ],
)
def test_dropout(size, width, dtype):
    source = emulator.buffer(np.arange(1, size + 1).astype(dtype) / size)
    to, mask = emulator.buffer(np.zeros(size, dtype)), emulator.buffer(np.full(size, 7, np.uint8))
    p = DropoutParams(
        source.ctypes.data, to.ctypes.data, mask.ctypes.data, SEED, 4, size, 0.75, 4 / 3, 0.75, 4 / 3, width
    )
    name = {4: "f32", 2: "f16", 8: "f64"}[source.itemsize]
    emulator.load(800).launch(f"compat_random_dropout_{name}", 3, 256, 0, p)
    kept = philox.uniform(philox.dropout_bits(size, 3, SEED, 4, width)) < 0.75
    assert np.array_equal(mask, kept)
    np.testing.assert_allclose(to, source * kept * (4 / 3), rtol=2e-3 if dtype == np.float16 else 1e-6)


def test_chances():
    chances = emulator.buffer(np.linspace(0, 1, 1003, dtype=np.float32))
    to = emulator.buffer(np.zeros(1003, np.int64))
    p = ChancesParams(to.ctypes.data, chances.ctypes.data, SEED, 8, 1003, CELLS.index(np.int64))
    emulator.load(800).launch("compat_random_chances_f32", 1, 256, 0, p)
    counter = np.stack([np.full(1003, 2), np.zeros(1003), np.arange(1003) // 4, np.zeros(1003)], 1)
    drawn = philox.uniform(philox.philox(counter, (SEED % 2**32, SEED >> 32))[np.arange(1003), np.arange(1003) % 4])
    assert np.array_equal(to, drawn <= chances)
    chances[70] = 1.5
    with pytest.raises(emulator.EmulatorError, match="__trap"):
        emulator.load(800).launch("compat_random_chances_f32", 1, 256, 0, p)
