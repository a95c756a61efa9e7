"""gemm and gemv as the emulator runs them for each generation of cards, against float64: no card, no torch of CUDA."""

import os

import emulator
import pytest
import reference
import torch
from products import DTYPES, Product, guarded, operand, want

ARCHITECTURES = (610, 700, 750, 800)  # each has other instructions: none, quad pairs, m16n8k8, all
GEMM = [
    (dtype, layout, size)
    for dtype in ("f32", "tf32", "f16", "bf16", "f64")
    for layout in ("nt", "nn", "tn", "any")
    for size in ((64,) if dtype == "f64" or layout == "any" else (64, 128))
    if (dtype, layout) != ("tf32", "any")
]
GEMV = [
    (dtype, layout, rows)
    for dtype in DTYPES
    for layout, most in (("nt", 16), ("nn", 8))
    for rows in (1, 2, 4, 8, 16)
    if rows <= most
]


ACTIVATIONS = (
    torch.nn.Identity(),
    torch.nn.ReLU(),
    torch.nn.LeakyReLU(0.2),
    torch.nn.GELU(),
    torch.nn.GELU(approximate="tanh"),
    torch.nn.SiLU(),
    torch.nn.Tanh(),
)


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda arch: f"sm_{arch // 10}")
def arch(request):
    return request.param


@pytest.fixture(scope="module")
def card(arch):
    return emulator.load(arch)


def check(p: Product, card: emulator.Emulator, arch: int) -> torch.Tensor:
    """As accurate as PyTorch's own product on the CPU, whose error may be zero where the sums are short."""
    got, activation = p.run(card, arch), ACTIVATIONS[p.activation]
    if p.a.shape[2] < 32:
        reference.assert_rounded(got, activation(want(p)), p.a.double().abs() @ p.b.double().abs().transpose(1, 2))
        return got
    peer = p.a @ p.b.transpose(1, 2)
    peer = activation((peer if p.addend is None else peer + p.addend).float()).to(peer.dtype)
    reference.assert_as_accurate(got, peer, activation(want(p)))
    return got


def make(dtype: str, layout: str, m: int, n: int, k: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    torch_dtype = DTYPES[dtype.removeprefix("t")]
    a = operand(m, k, torch_dtype, layout != "tn", 1, batch)
    b = operand(n, k, torch_dtype, layout in ("nt", "any"), 2, batch)
    if dtype == "tf32":  # values that it has exactly
        a.copy_(a.bfloat16())
        b.copy_(b.bfloat16())
    return a, b


@pytest.mark.parametrize(("dtype", "layout", "size"), GEMM)
def test_gemm(arch, card, dtype, layout, size):
    piece = 16 // DTYPES[dtype.removeprefix("t")].itemsize
    a, b = make(dtype, layout, 136, 72 + piece, 64 + piece)  # tiles that are cut in every direction
    check(Product(f"compat_gemm_{dtype}_{layout}_{size}", a, b), card, arch)


@pytest.mark.parametrize("layout", ["nt", "nn", "tn"])
@pytest.mark.parametrize("dtype", ["tf32", "f16", "bf16"])
def test_wide_tiles(dtype, layout):
    """From sm_80 on; 2100 rows are more than a band of tiles has."""
    piece = 16 // DTYPES[dtype.removeprefix("t")].itemsize
    for m, n, k in ((136, 256 + piece, 64 + piece), (2104, 264, 8)):
        check(Product(f"compat_gemm_{dtype}_{layout}_256", *make(dtype, layout, m, n, k)), emulator.load(800), 800)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (65, 3, 7), (64, 65, 33), (3, 70, 129), (5, 7, 0)])
def test_any_sizes_and_strides(arch, card, dtype, m, n, k):
    a = guarded(torch.linspace(-1, 1, 2 * m * 3 * k).to(DTYPES[dtype]).reshape(1, 2 * m, 3 * k))[:, ::2, ::3]
    b = guarded(torch.linspace(1, -2, n * k).to(DTYPES[dtype]).reshape(1, k, n)).transpose(1, 2)
    check(Product(f"compat_gemm_{dtype}_any_64", a, b), card, arch)


@pytest.mark.parametrize(("dtype", "layout", "rows"), GEMV)
def test_gemv(arch, card, dtype, layout, rows):
    piece = 16 // DTYPES[dtype].itemsize
    for m in {rows, max(1, rows - 1)}:
        a = operand(m, 5 * 32 * piece + piece, DTYPES[dtype], True, 1)
        n = 7 if layout == "nt" else 34 * piece
        b = operand(n, a.shape[2], DTYPES[dtype], layout == "nt", 2)
        check(Product(f"compat_gemv_{dtype}_{layout}_{rows}", a, b), card, arch)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_k(arch, card, dtype):
    """Without an a, all its values are 1."""
    a = torch.ones(1, 1, 300, dtype=DTYPES[dtype])
    check(Product(f"compat_gemv_{dtype}_nn_1", a, operand(64, 300, DTYPES[dtype], False, 2), ones=True), card, arch)


@pytest.mark.parametrize("kernel", ["gemm_f32_nt_64", "gemm_f16_tn_128", "gemv_bf16_nt_4", "gemv_f64_nn_2"])
def test_split_sums_are_added_in_order(arch, card, kernel):
    kind, dtype, layout, _size = kernel.split("_")
    a, b = make(dtype, layout, 2 if kind == "gemv" else 80, 64, 1000 // 8 * 8)
    results = [check(Product(f"compat_{kernel}", a, b, splits=3), card, arch) for _ in range(2)]
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_split_sums_of_rows_that_no_vectors_fill(arch, card, dtype):
    a, b = make(dtype, "nt", 16, 21, 64)
    check(Product(f"compat_gemm_{dtype}_nt_64", a, b, splits=2), card, arch)


@pytest.mark.skipif("EMULATOR_CHECKED" in os.environ, reason="the checked build wants buffers written whole")
@pytest.mark.parametrize("kernel", ["gemm_f16_nt_64", "gemm_f16_any_64", "gemv_f16_nt_4"])
def test_more_than_2_31_elements(arch, card, kernel):
    a = operand(3, 64, torch.float16, True, 1)
    b = torch.empty(2**31 + 64, dtype=torch.float16).as_strided((1, 2, 64), (0, 2**31, 1))  # pages in use: two
    b.copy_(operand(2, 64, torch.float16, True, 2))
    check(Product(f"compat_{kernel}", a, b), card, arch)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches(arch, card, dtype):
    a, b = make(dtype, "nt", 16, 24, 32, batch=3)
    check(Product(f"compat_gemm_{dtype}_nt_64", a, b), card, arch)
    check(Product(f"compat_gemm_{dtype}_nt_64", a, b[:1], splits=2), card, arch)


@pytest.mark.parametrize("kind", range(len(ACTIVATIONS)))
@pytest.mark.parametrize("kernel", ["gemm_f32_nt_64", "gemv_f16_nt_2", "gemv_f64_nn_2"])
@pytest.mark.parametrize("splits", [1, 2])
def test_addend_then_activation(arch, card, kernel, kind, splits):
    _, dtype, layout, _ = kernel.split("_")
    a, b = make(dtype, layout, 2, 16, 512)
    for shape in ((1, 16), (1, 1), (2, 16), (2, 1)):
        addend = guarded(torch.linspace(-9, 9, shape[0] * shape[1]).to(a.dtype).reshape(1, *shape))
        check(Product(f"compat_{kernel}", a, b, addend, splits, kind, 0.2), card, arch)


def test_tf32_rounds_its_operands_and_nothing_else(arch, card):
    a = guarded(torch.zeros(1, 1, 16))
    a[0, 0, 0] = 1 + 2.0**-11 + 2.0**-13
    got = Product("compat_gemm_tf32_nt_64", a, a).run(card, arch)
    operand_of_product = 1 + 2.0**-10 if arch >= 800 else a[0, 0, 0].item()
    assert got.item() == torch.tensor(operand_of_product**2).item()
