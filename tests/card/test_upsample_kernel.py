"""Upsampling by this package's kernels, in mode kernel."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset, with_gradient

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
NAMES = ("interpolate_nearest", "interpolate_nearest-exact", "interpolate_linear", "interpolate_bilinear")
OPS = {f"nn_functional_{name}": opinfo_kernels.FLOATS for name in (*NAMES, "upsample_bilinear", "upsample_nearest")}
TAKEN = {
    f"aten::{name}{kind}"
    for name in ("upsample_nearest", "_upsample_nearest_exact", "upsample_linear", "upsample_bilinear")
    for kind in ("1d", "2d", "1d_backward", "2d_backward")
}
MODELS = {
    "UNet": ((2, 8, 8, 8), {"scale_factor": 2.0, "mode": "nearest"}),
    "harmonics": ((1, 9, 12), {"scale_factor": 300, "mode": "linear"}),
    "frames": ((1, 9, 600), {"scale_factor": 1 / 300, "mode": "linear"}),
    "phases": ((2, 5, 7), {"size": 31, "mode": "nearest"}),
    "odd": ((2, 3, 7, 5), {"scale_factor": (1.7, 0.6), "mode": "bilinear"}),
    "corners": ((2, 3, 7, 5), {"size": (4, 16), "mode": "bilinear", "align_corners": True}),
    "exact": ((2, 3, 7, 5), {"size": (4, 16), "mode": "nearest-exact"}),
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN, most=6)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", opinfo_kernels.FLOATS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_models(name, dtype, channels_last):
    size, options = MODELS[name]
    x = reference.values(*size, dtype=dtype)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    got, grad, seed = with_gradient(lambda x: F.interpolate(x, **options), x, TAKEN)
    x.requires_grad_()
    want = F.interpolate(x, **options)
    assert got.stride() == want.stride()
    peers = [want.detach(), torch.autograd.grad(want, x, seed)[0]]
    limit = {torch.float32: 1e-5, torch.float64: 1e-10}.get(dtype, 4e-2)
    for ours, peer in zip((got.detach(), grad), peers, strict=True):
        torch.testing.assert_close(ours.cpu(), peer, rtol=limit, atol=limit)


def test_strides_and_numbers_that_are_none():
    x = reference.values(2, 3, 7, 10)[..., ::2]
    x[0, 0, 0, 0], x[1, 2, 6, 4] = float("nan"), float("inf")
    for mode in ("nearest", "bilinear"):
        got = F.interpolate(on_card(x)[0], (9, 8), mode=mode)
        torch.testing.assert_close(got.cpu(), F.interpolate(x, (9, 8), mode=mode), rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("dtype", opinfo_kernels.FLOATS, ids=str)
@pytest.mark.parametrize(
    "options", [{"size": (9, 4)}, {"scale_factor": (1.7, 0.6)}, {"size": (4, 16), "align_corners": True}]
)
def test_bicubic(options, dtype):
    for x in (reference.values(2, 3, 7, 5, dtype=dtype), reference.values(2, 7, 5, 3, dtype=dtype).permute(0, 3, 1, 2)):
        (there,) = on_card(x)
        reset()
        bc.reset_fallbacks()
        got = F.interpolate(there, mode="bicubic", **options)
        only_ours()
        assert not {line.op for line in bc.fallbacks().lines} & {"aten::upsample_bicubic2d"}
        want = F.interpolate(x, mode="bicubic", **options)
        limit = {torch.float32: 1e-5, torch.float64: 1e-10}.get(dtype, 4e-2)
        torch.testing.assert_close(got.cpu(), want, rtol=limit, atol=limit)
        assert got.stride() == want.stride()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.interpolate(x, (2, 3), mode="bicubic", antialias=True),
        lambda x: F.interpolate(x[:0], (2, 3)),
        lambda x: F.interpolate((x * 9).to(torch.uint8), (2, 3)),
        lambda x: F.interpolate(x[None], (2, 3, 4)),
    ],
    ids=["bicubic", "empty", "bytes", "volumes"],
)
def test_others_fall_back(call):
    x = reference.values(2, 3, 5, 4).abs()
    torch.testing.assert_close(call(*on_card(x)).cpu(), call(x))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.ops.aten.upsample_nearest2d(x, [0, 3]),
        lambda x: torch.ops.aten.upsample_nearest2d(x[0], [2, 3]),
        lambda x: torch.ops.aten.upsample_nearest2d_backward(x, [2, 3], [2, 3, 5, 4]),
    ],
    ids=["size", "dimensions", "gradient"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(2, 3, 5, 4)
    with pytest.raises(RuntimeError) as on_cpu:
        call(x)
    with pytest.raises(RuntimeError) as on_the_card:
        call(*on_card(x))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
