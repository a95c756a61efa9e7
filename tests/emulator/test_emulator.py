"""Built-ins against their definitions, the instructions of tensor cores against matrix products."""

import math
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import emulator
from emulator.launching import KERNELS, Params, launched

LANES = np.arange(32)
WORDS = np.random.default_rng(0).integers(0, 2**32, 4096, np.uint32)
EDGES = np.array([0, 1, 2**31, 2**32 - 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0x477FEFFF, 0x477FF000, 0x33000000], "u4")


def test_every_thread_knows_its_place():
    grid, block = (2, 3, 2), (4, 3, 5)
    got = launched("test_indices", [0.0], np.zeros((12 * 60, 12), "u4"), grid=grid, block=block)
    want = []
    for number in range(12 * 60):
        block_number, thread = divmod(number, 60)
        at = (thread % 4, thread // 4 % 3, thread // 12)
        of = (block_number % 2, block_number // 2 % 3, block_number // 6)
        want.append([*at, *of, *block, *grid])
    assert got.tolist() == want


def shuffle(kind, operand, width, lane):
    """The lane that shfl.sync reads, as the PTX ISA manual computes it, with the c that CUDA's headers give it."""
    segment_mask = 32 - width
    clamp = 0 if kind == "up" else 31
    b = operand & 31
    max_lane = (lane & segment_mask) | (clamp & ~segment_mask & 31)
    min_lane = lane & segment_mask
    source, valid = {
        "idx": ((j := min_lane | (b & ~segment_mask)), j <= max_lane),
        "up": (lane - b, lane - b >= max_lane),
        "down": (lane + b, lane + b <= max_lane),
        "xor": (lane ^ b, lane ^ b <= max_lane),
    }[kind]
    return source if valid else lane


def test_shuffles():
    calls = [(k, o, w) for k in ("idx", "up", "down", "xor") for o in (0, 1, 3, 5, 8, 31) for w in (1, 2, 4, 8, 16, 32)]
    kinds = np.array([(("idx", "up", "down", "xor").index(k), o, w) for k, o, w in calls], "i4")
    got = launched("test_shuffles", kinds, np.zeros((len(calls), 32), "i4"), len(calls))
    for call, lanes in zip(calls, got, strict=True):
        assert lanes.tolist() == [100 + shuffle(*call, lane) for lane in range(32)], call


def test_shuffles_of_other_types():
    got = launched("test_shuffle_types", [0.0], np.zeros((32, 3)))
    assert (got == np.stack([0.5 * (31 - LANES), 0.25 * (LANES * 7 % 32), 2**40 + LANES // 2], 1)).all()


@pytest.mark.parametrize("bits", [0, 0xFFFFFFFF, 0x80000001, 0x0000FFFF, 0x12345678])
def test_votes(bits):
    predicates = bits >> LANES & 1
    got = launched("test_votes", (5 * predicates).astype("i4"), np.zeros((32, 6), "u4"))
    for lane in range(32):
        mask = 0xFFFF if lane < 16 else 0xFFFF0000
        whole = [bits, bits != 0, bits == 0xFFFFFFFF]
        assert got[lane].tolist() == [*whole, bits & mask, bits & mask != 0, bits & mask == mask], lane


@pytest.mark.parametrize("ones", [0, 1, 99, 100])
def test_barriers_that_count(ones):
    got = launched("test_barriers", (np.arange(100) < ones).astype("i4") * 3, np.zeros((100, 3), "i4"), block=100)
    assert (got == [ones, ones > 0, ones == 100]).all()


def test_atomics():
    n = 96
    got = launched("test_atomics", [0.0], np.zeros(16 + n, "i4"), block=n, shared_bytes=16)
    assert got[:4].tolist() == [n * (n - 1) // 2, n - 1, 1 - n, n]
    assert (got[16:] == 1).all()
    assert got[4:5].view("f4")[0] == n / 2
    assert got[5] == 2 * n
    assert got[6:8].view("u8")[0] == n << 32
    assert got[8] == 255
    assert got[9] == np.bitwise_xor.reduce(np.arange(n))
    assert 1 <= got[10] <= n
    assert got[11] == 7
    assert got[12:14].view("f8")[0] == n / 4


def test_float_functions():
    x = np.concatenate([np.linspace(-8, 8, 501), [0.5, 1.5, 2.5, -0.5]]).astype("f4")
    y = np.linspace(3, -3, x.size).astype("f4")
    a, b = x.astype("f8"), y.astype("f8")
    erf = np.vectorize(math.erf)
    positive = np.abs(a)
    with np.errstate(all="ignore"):
        want = [
            *(np.exp(a), np.exp(a), np.exp2(a), np.log(positive), np.log2(positive), np.log1p(positive), np.expm1(a)),
            *(np.sqrt(positive), 1 / np.sqrt(positive), np.tanh(a), erf(a), np.sin(a), np.cos(a)),
            *(np.sin(np.pi * a), np.cos(np.pi * a), positive**b, a * b + 2, a / b),
            *(np.floor(a), np.ceil(a), np.trunc(a), np.rint(a), np.copysign(np.floor(positive + 0.5), a)),
            *(np.copysign(a, b), np.minimum(a, b), np.maximum(a, b), np.clip(a, 0, 1)),
            *(np.arctan2(a, b), np.fmod(a, b), 1 / a, positive, np.exp(a)),
        ]
    got = launched("test_floats", np.concatenate([x, y]), np.zeros((len(want), x.size), "f4"), x.size, 4, 256)
    for i, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=1e-9 if i in (13, 14) else 1e-30, err_msg=str(i))


def test_bit_functions():
    x, y = np.concatenate([EDGES, WORDS[:2000]]), np.concatenate([EDGES[::-1], WORDS[2000:4000]])
    got = launched("test_bits", np.concatenate([x, y]), np.zeros((13, x.size), "u4"), x.size, 8, 256)
    for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        signed_a, signed_b = ((v ^ 2**31) - 2**31 for v in (a, b))
        both = a | b << 32
        whole = both.to_bytes(8, "little")
        want = [
            *(bin(a).count("1"), 32 - a.bit_length(), (a & -a).bit_length(), int(f"{a:032b}"[::-1], 2)),
            *(a * b >> 32, (both << 5) >> 32, both >> 5),
            int.from_bytes([whole[k] for k in (5, 1, 7, 2)], "little"),
            *(a, min(a, b), max(a, b), min(signed_a, signed_b), abs(signed_a)),
        ]
        assert got[:, i].tolist() == [v & 0xFFFFFFFF for v in want], hex(a)


def rounded(values, bits):
    """float64 of `values` (normal numbers) rounded to `bits` behind the point: to nearest; halves to even, or away."""
    fraction, exponent = np.frexp(np.abs(values.astype("f8")))
    scaled = np.ldexp(fraction, bits + 1)
    even, away = np.rint(scaled), np.floor(scaled + 0.5)
    return [np.copysign(np.ldexp(it, exponent - bits - 1), values) for it in (even, away)]


def test_conversions():
    all_halves = np.arange(65536, dtype="u4")
    halves = launched("test_conversions", all_halves, np.zeros((5, 65536), "u4"), 65536, 256, 256)
    np.testing.assert_array_equal(halves[0].view("f4"), all_halves.astype("u2").view("f2").astype("f4"))
    np.testing.assert_array_equal(halves[1], all_halves << 16)
    near = (np.arange(0x33000000, 0x47800000, 4093, dtype="u4")[:, None] + np.array([0, 2**31], "u4")).ravel()
    ties = (np.arange(0x33000000, 0x47800000, 0x1000, dtype="u4")[:, None] + np.array([0, 2**31], "u4")).ravel()
    words = np.concatenate([EDGES, WORDS, near, ties])
    got = launched(
        "test_conversions", words, np.zeros((5, words.size), "u4"), words.size, (words.size + 255) // 256, 256
    )
    values = words.view("f4")
    number = ~np.isnan(values)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got[2][number], values.astype("f2").view("u2")[number])
    assert (got[2][~number] == 0x7FFF).all()
    assert (got[3][~number] == 0x7FFF).all()
    normal = np.isfinite(values) & (np.abs(values) > 2**-126) & (np.abs(values) < 2**127)
    bf16 = (got[3].astype("u4") << 16).view("f4")
    np.testing.assert_array_equal(bf16[normal], rounded(values[normal], 7)[0])
    np.testing.assert_array_equal(got[4].view("f4")[normal], rounded(values[normal], 10)[1])


def test_vectors():
    got = launched("test_vectors", np.array([1, 2, 3, 4], "f4"), np.zeros((2, 4), "f4"), block=1)
    assert got.tolist() == [[4, 3, 2, 1], [1, 16, 16, 2]]


# Where the PTX ISA manual puts element i of lane l: (row, column)
LAYOUTS = {
    "16x8x16": {
        "a": lambda lane, i: (
            lane // 4 + (8 if i in (2, 3, 6, 7) else 0),
            lane % 4 * 2 + (i & 1) + (8 if i >= 4 else 0),
        ),
        "b": lambda lane, i: (lane % 4 * 2 + (i & 1) + (8 if i >= 2 else 0), lane // 4),
        "d": lambda lane, i: (lane // 4 + (8 if i >= 2 else 0), lane % 4 * 2 + (i & 1)),
    },
    "16x8x8": {
        "a": lambda lane, i: (lane // 4 + (8 if i in (1, 3) else 0), lane % 4 + (4 if i >= 2 else 0)),
        "b": lambda lane, i: (lane % 4 + (4 if i == 1 else 0), lane // 4),
        "d": lambda lane, i: (lane // 4 + (8 if i >= 2 else 0), lane % 4 * 2 + (i & 1)),
    },
    "8x8x4": {
        "a": lambda lane, i: (lane % 4 + (4 if lane >= 16 else 0), i),
        "b": lambda lane, i: (i, lane % 4 + (4 if lane >= 16 else 0)),
        "d": lambda lane, i: ((lane & 1) + (i & 2) + (4 if lane >= 16 else 0), (i & 4) + (lane & 2) + (i & 1)),
    },
}


def packed(values, dtype):
    """32-bit registers with float32 `values`: [lane][register]."""
    if dtype == "bf16":
        return (values.view("u4") >> 16).astype("u2").view("u4")
    return values.astype("f2").view("u4") if dtype == "f16" else values.view("u4")


def fragments(matrices, layout, count):
    """Of [product][row][column], the float32 of [lane][element]. 8x8x4: product lane % 16 // 4 is the lane's."""
    return np.array([[matrices[n % 16 // 4][layout(n, i)] for i in range(count)] for n in range(32)], "f4")


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize(
    ("kernel", "shape", "dtype", "arch"),
    [
        ("16x8x16_f16", (16, 8, 16), "f16", 750),
        ("16x8x16_f16", (16, 8, 16), "f16", 1200),
        ("16x8x16_bf16", (16, 8, 16), "bf16", 800),
        ("16x8x8", (16, 8, 8), "tf32", 800),
        ("8x8x4", (8, 8, 4), "f16", 700),
    ],
)
def test_matrix_products(kernel, shape, dtype, arch, checked):
    (M, N, K), products = shape, 4 if shape == (8, 8, 4) else 1
    random = np.random.default_rng(sum(shape))
    a, b, d = (random.integers(-9, 10, (products, *of)).astype("f4") for of in ((M, K), (K, N), (M, N)))
    stacked = [np.repeat(it, 4 // products, 0) for it in (a, b, d)]
    layout = LAYOUTS["x".join(map(str, shape))]
    counts = M * K * products // 32, K * N * products // 32, M * N * products // 32
    of_a, of_b, of_d = (fragments(it, layout[name], n) for it, name, n in zip(stacked, "abd", counts, strict=True))
    registers = np.concatenate([packed(of_a, dtype), packed(of_b, dtype), of_d.view("u4")], 1)
    got = launched(f"test_{kernel}", registers, np.zeros((32, counts[2]), "f4"), arch=arch, checked=checked)
    np.testing.assert_array_equal(got, fragments(np.repeat(a @ b + d, 4 // products, 0), layout["d"], counts[2]))


def test_tf32_ignores_the_low_bits():
    registers = np.zeros((32, 10), "u4")
    registers[:, :4] = np.float32(1).view("u4") + 0x1FFF
    registers[:, 4:6] = np.float32(1).view("u4")
    assert (launched("test_16x8x8", registers, np.zeros((32, 4), "f4")) == 8).all()


@pytest.mark.parametrize(
    ("kernel", "arch", "needs"),
    [
        ("16x8x16_f16", 700, "multiply_16x8x16 of f16 needs sm_75, this is sm_70"),
        ("16x8x16_bf16", 750, "multiply_16x8x16 of bf16 needs sm_80, this is sm_75"),
        ("16x8x8", 750, "multiply_16x8x8 needs sm_80, this is sm_75"),
        ("8x8x4", 610, "multiply_8x8x4 needs sm_70, this is sm_61"),
    ],
)
def test_an_instruction_the_card_lacks_is_an_error(kernel, arch, needs):
    with pytest.raises(emulator.EmulatorError, match=f"{needs}$"):
        launched(f"test_{kernel}", np.zeros((32, 14), "u4"), np.zeros((32, 8), "f4"), arch=arch)


@pytest.mark.parametrize("kernel", ["matrices", "transposed"])
def test_load_matrices(kernel):
    matrices = np.arange(256, dtype="u2").reshape(4, 8, 8) + 1000
    got = launched(f"test_load_{kernel}", matrices, np.zeros((32, 4), "u4"), shared_bytes=32 * 48)
    seen = matrices.transpose(0, 2, 1) if kernel == "transposed" else matrices
    for lane in range(32):
        row, column = lane // 4, lane % 4 * 2
        assert got[lane].tolist() == [int(m[row, column]) | int(m[row, column + 1]) << 16 for m in seen]


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize(("name", "dtype", "block", "shared"), [("f16", "f2", 128, 12288), ("f32", "f4", 256, 8320)])
def test_a_gemm(name, dtype, block, shared, checked):
    random = np.random.default_rng(0)
    a, b = (emulator.buffer(random.standard_normal((128, 192)).astype(dtype)) for _ in range(2))
    c = emulator.buffer(np.zeros((128, 128), "f4"))
    pointers = np.array([it.ctypes.data for it in (a, b, c)], "u8")
    params = pointers.tobytes() + np.array([128, 128, 192, 0], "i4").tobytes()
    emulator.load(800, checked, KERNELS).launch(f"test_gemm_{name}", (2, 2), block, shared, params)
    np.testing.assert_allclose(c, a.astype("f8") @ b.astype("f8").T, atol=1e-4)


def test_launches_of_several_os_threads():
    card = emulator.load(800, sources=KERNELS)
    x, wrong = emulator.buffer(np.arange(500, dtype="f4")), []

    def work():
        y = emulator.buffer(np.zeros(1, "f4"))
        for _ in range(50):
            y[0] = 0
            card.launch("test_block_sum", 1, 256, 32, Params(x.ctypes.data, y.ctypes.data, 500))
            if y[0] != x.sum():
                wrong.append(y[0])
            try:  # and an error is that of its own launch
                card.launch("test_add_one", 1, 32, 0, Params(8, y.ctypes.data, 500))
                wrong.append("no error")
            except emulator.EmulatorError as error:
                if "0x8, which is in no buffer" not in str(error):
                    wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert not wrong


def test_a_buffer_stays_while_a_view_does():
    first = emulator.buffer(np.arange(10, dtype="f4"))[2:]
    y = emulator.buffer(np.zeros(8, "f4"))
    params = Params(first.ctypes.data, y.ctypes.data, 8)
    emulator.load(800, True, KERNELS).launch("test_add_one", 1, 32, 0, params)
    assert y.tolist() == list(range(3, 11))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5, 7)])
def test_buffers_of_any_shape(shape):
    values = np.full(shape, 3, "f8")
    array = emulator.buffer(values)
    assert array.shape == shape
    assert array.ctypes.data % 16 == 0
    assert (array == values).all()


def test_two_processes_build_at_once(tmp_path):
    tmp_path.joinpath("one.cu").write_text(KERNELS.joinpath("basic.cu").read_text() + f"// {os.getpid()} {tmp_path}\n")
    tmp_path.joinpath("params.cuh").write_text(KERNELS.joinpath("params.cuh").read_text())
    code = f"""
        import sys
        sys.path.insert(0, {str(KERNELS.parents[1])!r})
        from pathlib import Path
        import emulator
        print(emulator.load(750, sources=Path({str(tmp_path)!r})).kernels())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [it.communicate()[0] for it in running]
    assert outputs[0] == outputs[1] != ""
