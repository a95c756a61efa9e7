"""conv1d as the emulator runs it for each generation of cards, against float64: no card, no torch of CUDA."""

import emulator
import pytest
import reference
import torch
from convolutions import Convolution, WeightGradient, laid
from products import DTYPES, guarded
from test_gemm import ACTIVATIONS

ARCHITECTURES = (610, 700, 750, 800, 1200)
SIZES = ("64", "128", "128x64", "256x32")
TILES = [(dtype, size) for dtype in ("f32", "tf32", "f16", "bf16") for size in SIZES] + [("f64", "64")]
DIRECT = [(dtype, outs) for dtype in DTYPES for outs in (1, 8)]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda arch: f"sm_{arch // 10}")
def card(request):
    return emulator.load(request.param)


def values(*size: int, dtype: str, seed: int = 0) -> torch.Tensor:
    t = reference.values(*size, dtype=DTYPES[dtype.removeprefix("t")], seed=seed)
    return t.bfloat16().float() if dtype == "tf32" else t  # values that it has exactly


def make(kernel: str, batch: int, c_in: int, length: int, c_out: int, k: int, channels_last: bool = False, **options):
    dtype, groups = kernel.split("_")[-2], options.get("groups", 1)
    shape = (c_in, c_out // groups, k) if options.get("transposed") else (c_out, c_in // groups, k)
    return Convolution(
        f"compat_conv1d_{kernel}",
        laid(values(batch, c_in, length, dtype=dtype), channels_last),
        guarded(values(*shape, dtype=dtype, seed=1)),
        guarded(values(c_out, dtype=dtype, seed=2)),
        channels_last=channels_last,
        **options,
    )


def check(c: Convolution, card: emulator.Emulator) -> torch.Tensor:
    got = c.run(card)
    before, after = ACTIVATIONS[c.pre_activation], ACTIVATIONS[c.activation]
    x = before(c.input.double()).to(c.input.dtype).double()
    bias = None if c.bias is None else c.bias.double()
    want = after(c.by_torch(x, c.weight.double(), bias))
    if c.residual is not None:
        want = want + c.residual.double()
    magnitude = c.by_torch(x.abs(), c.weight.double().abs(), None if bias is None else bias.abs())
    reference.assert_rounded(got, want, magnitude)
    return got


SHAPES = {
    "cut everywhere": {"c_in": 40, "length": 71, "c_out": 70, "k": 3, "padding": 1},
    "odd channels": {"c_in": 19, "length": 67, "c_out": 33, "k": 2},
    "one tap": {"c_in": 64, "length": 130, "c_out": 72, "k": 1},
    "stride and dilation": {"c_in": 24, "length": 180, "c_out": 10, "k": 5, "stride": 2, "dilation": 3, "padding": 4},
    "groups": {"c_in": 48, "length": 20, "c_out": 36, "k": 4, "groups": 2, "padding": 5},
    "longer than the signal": {"c_in": 16, "length": 3, "c_out": 9, "k": 11, "padding": 8},
    "one sample": {"c_in": 16, "length": 1, "c_out": 9, "k": 1},
}
TRANSPOSED = {
    "transposed": {"c_in": 40, "length": 30, "c_out": 70, "k": 11, "stride": 5, "padding": 3},
    "fewer taps than phases": {"c_in": 16, "length": 70, "c_out": 9, "k": 2, "stride": 3, "output_padding": 1},
    "phases without taps": {"c_in": 16, "length": 33, "c_out": 12, "k": 7, "stride": 6, "dilation": 4, "groups": 2},
    "stride smaller than dilation": {
        "c_in": 16,
        "length": 9,
        "c_out": 9,
        "k": 4,
        "stride": 2,
        "dilation": 5,
        "padding": 3,
    },
}
SHAPES |= {name: {**shape, "transposed": True} for name, shape in TRANSPOSED.items()}


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCL", "NLC"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "size"), TILES)
def test_tiles(card, dtype, size, shape, channels_last):
    check(make(f"{dtype}_{size}", 2, channels_last=channels_last, **shape), card)


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCL", "NLC"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_direct(card, dtype, shape, channels_last):
    check(make(f"direct_{dtype}_8", 2, channels_last=channels_last, **shape), card)
    depthwise = shape | {"groups": shape["c_in"], "c_out": shape["c_in"]}
    check(make(f"direct_{dtype}_1", 2, channels_last=channels_last, **depthwise), card)


@pytest.mark.parametrize("window_taps", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCL", "NLC"])
def test_taps_share_windows(card, dtype, window_taps, channels_last):
    for stride in (1, 3):
        shape = {"c_in": 72, "length": 200, "c_out": 20, "k": 5, "dilation": 7, "padding": 14, "stride": stride}
        check(make(f"{dtype}_64", 1, channels_last=channels_last, window_taps=window_taps, **shape), card)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_split_sums_are_added_in_order(card, dtype, transposed):
    shape = {"c_in": 100, "length": 40, "c_out": 24, "k": 3, "stride": 2, "transposed": transposed}
    for channels_last in (False, True):
        c = make(f"{dtype}_64", 2, channels_last=channels_last, splits=3, window_taps=2, **shape)
        assert torch.equal(check(c, card), c.run(card))


@pytest.mark.parametrize("kind", range(len(ACTIVATIONS)))
@pytest.mark.parametrize("kernel", ["f32_64", "f16_64", "bf16_64", "direct_f32_8", "direct_f64_1"])
@pytest.mark.parametrize("splits", [1, 2])
def test_activations_before_and_after_then_residual(card, kernel, kind, splits):
    c_out = 1 if kernel.endswith("_1") else 24
    for channels_last in (False, True):
        c = make(kernel, 1, 64, 30, c_out, 3, channels_last, splits=splits, padding=2)
        c.pre_activation, c.activation, c.slope = kind, (kind + 2) % len(ACTIVATIONS), 0.2
        c.residual = laid(values(1, c_out, 32, dtype=kernel.split("_")[-2], seed=5), not channels_last)
        check(c, card)


def test_strides_of_any_kind(card):
    c = make("f16_64", 2, 32, 50, 16, 3)
    c.input = guarded(values(3, 70, 110, dtype="f16"))[::2, 5:69:2, 3:103:2]
    c.weight = guarded(values(3, 32, 16, dtype="f16")).permute(2, 1, 0)
    c.bias = guarded(values(32, dtype="f16"))[::2]
    c.residual = guarded(values(1, 16, 1, dtype="f16")).expand(2, 16, 48)
    check(c, card)


def check_gradient(g: WeightGradient, card: emulator.Emulator) -> torch.Tensor:
    got, a = g.run(card), g.shorter.double()
    b = torch.ones_like(a[:, :1]) if g.longer is None else g.longer.double()

    def exact(a, b):
        weight = torch.zeros(g.size, dtype=torch.float64, requires_grad=True)
        y = torch.nn.functional.conv1d(b, weight, None, g.stride, g.padding, g.dilation, g.groups)
        return torch.autograd.grad(y[..., : a.shape[2]], weight, a[..., : y.shape[2]])[0]

    reference.assert_rounded(got, exact(a, b), exact(a.abs(), b.abs()))
    return got


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCL", "NLC"])
@pytest.mark.parametrize("dtype", ["f32", "tf32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("direct", [False, True])
def test_weight_gradient(card, dtype, direct, channels_last):
    kernel = f"compat_conv1d_grad_{'direct_' if direct else ''}{dtype.removeprefix('t') if direct else dtype}"
    channels = (6, 10) if direct else (70, 72)
    for stride, padding, dilation, k in ((1, 0, 1, 1), (1, 2, 1, 3), (3, 4, 2, 5), (2, 7, 3, 4)):
        longer = values(2, channels[1], 41, dtype=dtype)
        length = (41 + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        shorter = values(2, channels[0], length, dtype=dtype, seed=1)
        g = WeightGradient(kernel, laid(shorter, channels_last), laid(longer, channels_last), (*channels, k))
        g.stride, g.padding, g.dilation = stride, padding, dilation
        check_gradient(g, card)
        g.groups, g.size = 2, (channels[0], channels[1] // 2, k)
        g.splits = 1 if direct else 3
        assert torch.equal(check_gradient(g, card), g.run(card))


def test_sums_of_a_gradient(card):
    for dtype in DTYPES:
        a = laid(values(3, 5, 700, dtype=dtype), dtype == "f16")
        check_gradient(WeightGradient(f"compat_conv1d_grad_direct_{dtype}", a, None, (5, 1, 1)), card)
