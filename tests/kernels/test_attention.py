"""attention as the emulator runs it for each generation of cards, against float64: no card, no torch of CUDA."""

import ctypes
import math

import emulator
import pytest
import reference
import torch
from products import ceil_div, guarded

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
ARCHITECTURES = (500, 750, 800)  # multiply-adds alone, tensor cores for float16, for both
POINTERS = ("query", "key", "value", "mask", "out", "partial", "partial_sums")
STRIDES = [f"{name}_{part}" for name in ("query", "key", "value") for part in ("batch", "head", "row", "column")]
STRIDES += ["mask_batch", "mask_head", "mask_row", "mask_key", "out_batch", "out_head", "out_row", "results"]
COUNTS = ("heads", "group", "fold", "queries", "keys", "width", "keys_per_split")


class Params(ctypes.Structure):
    """AttentionParams of csrc/kernels/attention.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in POINTERS),
        *((name, ctypes.c_longlong) for name in STRIDES),
        *((name, ctypes.c_int) for name in COUNTS),
        *((name, ctypes.c_uint) for name in ("row_tiles", "splits")),
        *((name, ctypes.c_int) for name in ("causal", "mask_is_bool", "vectors")),
        *((name, ctypes.c_float) for name in ("scale", "of_no_keys")),
    )


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda arch: f"sm_{arch // 10}")
def arch(request):
    return request.param


def has_tensor_cores(dtype, arch):
    return (dtype == "f16" and arch >= 750) or (dtype == "bf16" and arch >= 800)


def tile_of(width, dtype, arch, kind):
    """The kernel's name, rows and keys of a block, bytes of shared memory."""
    wide = 64 if width <= 64 else 128 if width <= 128 else 256
    of_line, name = wide * DTYPES[dtype].itemsize, f"compat_attention_{dtype}_{wide}"
    if not has_tensor_cores(dtype, arch):
        rows = 64 if wide <= 128 else 32
        if arch < 700 or arch == 750:  # 48 or 64 KiB of shared memory
            rows = 64 if of_line <= 256 else 32 if of_line <= 512 else 16
        keys = rows // 2
        return name, rows, keys, (rows + 2 * keys) * (of_line + 16) + rows * (keys + 4) * 4
    if kind == "few":
        return f"{name}_few", 16, 64, (16 + 2 * 64) * of_line + 4 * 16 * 8
    if kind == "tall":
        keys = 64 if wide == 64 else 48 if arch == 800 else 32
        return f"{name}_tall", 128, keys, (128 + 2 * keys) * of_line
    keys = 64 if wide <= 128 else 32 if arch >= 800 else 16
    return name, 64, keys, (64 + 2 * keys) * of_line


def attention(arch, q, k, v, mask=None, causal=False, scale=None, splits=1, fold=None, of_no_keys=0.0, kind="band"):
    """`mask` (batch, heads, queries, keys), of any strides. `kind`: of AttentionKind, with tensor cores."""
    dtype = next(name for name, t in DTYPES.items() if t == q.dtype)
    (batch, heads, queries, width), keys = q.shape, k.shape[2]
    name, rows, keys_of_tile, shared = tile_of(width, dtype, arch, kind)
    integers = torch.int32 if dtype == "f32" else torch.int16
    nan = torch.full((batch, queries, heads, width), float("nan"), dtype=q.dtype)
    out = guarded(nan.view(integers).view(q.dtype)).transpose(1, 2)
    p = Params(query=q.data_ptr(), key=k.data_ptr(), value=v.data_ptr(), out=out.data_ptr())
    for operand, t in (("query", q), ("key", k), ("value", v)):
        for part, stride in zip(("batch", "head", "row", "column"), t.stride(), strict=True):
            setattr(p, f"{operand}_{part}", stride)
    if mask is not None:
        p.mask, p.mask_is_bool = mask.data_ptr(), mask.dtype == torch.bool
        p.mask_batch, p.mask_head, p.mask_row, p.mask_key = mask.stride()
    p.out_batch, p.out_head, p.out_row = out.stride()[:3]
    p.results = batch * heads * queries
    p.heads, p.group, p.queries, p.keys, p.width = heads, heads // k.shape[1], queries, keys, width
    p.fold = fold or 1
    p.causal, p.scale, p.of_no_keys = causal, 1 / math.sqrt(width) if scale is None else scale, of_no_keys
    piece = 16 // q.element_size()
    p.vectors = all(
        t.stride(3) == 1 and t.data_ptr() % 16 == 0 and all(s % piece == 0 for s in (*t.stride()[:3], width))
        for t in (q, k, v)
    )
    p.row_tiles = ceil_div(queries * p.fold, rows)
    p.keys_per_split = ceil_div(ceil_div(keys, splits), keys_of_tile) * keys_of_tile
    p.splits = ceil_div(keys, p.keys_per_split)
    if p.splits > 1:
        partial = guarded(torch.full((p.splits * p.results, width), float("nan")))
        sums = guarded(torch.full((p.splits * p.results, 2), float("nan")))
        p.partial, p.partial_sums = partial.data_ptr(), sums.data_ptr()
    card = emulator.load(arch)
    card.launch(name, p.row_tiles * p.splits * batch * heads // p.fold, 128, shared, p)
    if p.splits > 1:
        card.launch(f"compat_attention_merge_{dtype}", ceil_div(out.numel(), 256), 256, 0, p)
    return out


def want(q, k, v, mask=None, causal=False, scale=None):
    k, v = (t.double().repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q.double() @ k.transpose(-1, -2) * (1 / math.sqrt(q.shape[3]) if scale is None else scale)
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).tril().logical_not(), -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    return torch.softmax(scores, -1) @ v


def inputs(batch, heads, of_keys, queries, keys, width, dtype):
    shapes = (batch, heads, queries, width), (batch, of_keys, keys, width), (batch, of_keys, keys, width)
    return [guarded(reference.values(*shape, dtype=DTYPES[dtype], seed=i)) for i, shape in enumerate(shapes)]


def guarded_bool(t):
    return torch.from_numpy(emulator.buffer(t.numpy()))


def same(got, exact):
    """Weights are rounded to the dtype before they meet the values."""
    limit = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[got.dtype]
    torch.testing.assert_close(got.double(), exact, rtol=limit, atol=limit, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [8, 64, 72, 256])
def test_widths(arch, dtype, width):
    q, k, v = inputs(1, 2, 2, 70, 69, width, dtype)
    same(attention(arch, q, k, v), want(q, k, v))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 200), (65, 64), (130, 7), (128, 128)])
def test_causal(arch, dtype, queries, keys):
    q, k, v = inputs(2, 1, 1, queries, keys, 64, dtype)
    same(attention(arch, q, k, v, causal=True), want(q, k, v, causal=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("splits", [1, 3])
def test_heads_that_share_keys(arch, dtype, queries, splits):
    q, k, v = inputs(2, 12, 3, queries, 200, 40, dtype)
    exact = want(q, k, v, causal=queries > 1)
    folded = [attention(arch, q, k, v, causal=queries > 1, splits=splits, fold=fold) for fold in (4, 1)]
    for got in folded:
        same(got, exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 2, 66, 70), (2, 1, 1, 70), (1, 2, 66, 1), (1, 1, 66, 70)], ids=str)
@pytest.mark.parametrize("kind", ["bool", "added"])
def test_masks(arch, dtype, shape, kind):
    q, k, v = inputs(2, 2, 2, 66, 70, 32, dtype)
    mask = reference.values(*shape, seed=5)
    mask = guarded_bool(mask > 0) if kind == "bool" else guarded(mask.to(q.dtype))
    if kind == "bool":
        mask[..., 0] = True
    mask = mask.expand(2, 2, 66, 70)
    for splits in (1, 2):
        same(attention(arch, q, k, v, mask, scale=0.3, splits=splits), want(q, k, v, mask, scale=0.3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("splits", [1, 2])
def test_queries_without_keys_and_values_that_are_no_numbers(arch, dtype, splits):
    q, k, v = inputs(1, 1, 1, 5, 130, 16, dtype)
    q[0, 0, 1], q[0, 0, 2] = float("nan"), float("inf")
    mask = guarded_bool(torch.ones(1, 1, 5, 130, dtype=torch.bool))
    mask[0, 0, 0] = False
    mask[0, 0, 3, :64] = False
    got = attention(arch, q, k, v, mask, splits=splits, of_no_keys=7.0)
    exact = want(q, k, v, mask)
    assert got[0, 0, 0].eq(7).all()
    same(got[:, :, 1:], exact[:, :, 1:])


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("splits", [1, 2])
def test_keys_hidden_by_the_least_float(arch, dtype, splits):
    """Of a query for which all are, the mean of the values."""
    q, k, v = inputs(1, 1, 1, 3, 130, 16, dtype)
    mask = guarded(torch.zeros(1, 1, 3, 130, dtype=q.dtype))
    mask[0, 0, 0], mask[0, 0, 1, :64] = torch.finfo(q.dtype).min, torch.finfo(q.dtype).min
    same(attention(arch, q, k, v, mask, splits=splits), want(q, k, v, mask))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(arch, dtype):
    q, k, v = (guarded(reference.values(2, 9, 3, 42, dtype=DTYPES[dtype], seed=i))[..., ::2] for i in range(3))
    q, k, v = (t.transpose(1, 2) for t in (q, k[:, :, :1].expand(2, 9, 3, 21), v))
    same(attention(arch, q, k, v), want(q, k, v))
    q, k, v = guarded(reference.values(2, 70, 3, 3 * 32, dtype=DTYPES[dtype])).transpose(1, 2).chunk(3, -1)
    same(attention(arch, q, k, v), want(q, k, v))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores(arch, dtype):
    """The largest comes late: what was summed before shrinks to nothing."""
    q, k, v = inputs(1, 1, 1, 4, 150, 64, dtype)
    k[0, 0] *= torch.linspace(0, 40, 150)[:, None].to(k.dtype)
    same(attention(arch, q, k, v, scale=1.0), want(q, k, v, scale=1.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_again(arch, dtype):
    q, k, v = inputs(1, 2, 1, 3, 300, 64, dtype)
    assert torch.equal(attention(arch, q, k, v, splits=3, fold=2), attention(arch, q, k, v, splits=3, fold=2))


HALF = ["f16", "bf16"]


def needs_tensor_cores(dtype, arch):
    if not has_tensor_cores(dtype, arch):
        pytest.skip("the card has no tensor cores for it")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("width", [64, 72, 128])
@pytest.mark.parametrize(("queries", "keys"), [(128, 64), (150, 40), (260, 230)])
@pytest.mark.parametrize("causal", [False, True])
def test_two_bands_of_rows(arch, dtype, width, queries, keys, causal):
    needs_tensor_cores(dtype, arch)
    q, k, v = inputs(1, 2, 1, queries, keys, width, dtype)
    same(attention(arch, q, k, v, causal=causal, kind="tall"), want(q, k, v, causal=causal))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("width", [40, 64, 128, 256])
@pytest.mark.parametrize("keys", [1, 17, 64, 330])
@pytest.mark.parametrize("splits", [1, 3])
def test_few_rows(arch, dtype, width, keys, splits):
    needs_tensor_cores(dtype, arch)
    q, k, v = inputs(2, 6, 2, 1, keys, width, dtype)
    got = attention(arch, q, k, v, splits=splits, fold=3, kind="few")
    same(got, want(q, k, v))
    assert torch.equal(got, attention(arch, q, k, v, splits=splits, fold=3, kind="few"))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("splits", [1, 2])
def test_masks_of_few_rows(arch, dtype, splits):
    needs_tensor_cores(dtype, arch)
    q, k, v = inputs(1, 4, 2, 5, 150, 32, dtype)
    same(attention(arch, q, k, v, causal=True, splits=splits, fold=2, kind="few"), want(q, k, v, causal=True))
    mask = guarded_bool(reference.values(1, 4, 5, 150, seed=5) > 0)
    mask[..., :70] = False  # the first keys of two warps
    mask[..., 149] = True
    mask[0, 1, 2] = False
    got = attention(arch, q, k, v, mask, splits=splits, fold=2, of_no_keys=7.0, kind="few")
    exact = want(q, k, v, mask)
    exact[0, 1, 2] = 7
    same(got, exact)


@pytest.mark.parametrize("kind", ["band", "tall", "few"])
@pytest.mark.parametrize("scale", [0.0, -0.4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scales_that_turn_the_order_of_scores(arch, dtype, scale, kind):
    q, k, v = inputs(1, 1, 1, 3, 90, 64, dtype)
    same(attention(arch, q, k, v, scale=scale, kind=kind), want(q, k, v, scale=scale))
