"""Means and maxima over windows by this package's kernels, in mode kernel."""

import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card, with_gradient

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
KINDS = ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool")
OPS = {f"nn_functional_{kind}{axes}d": opinfo_kernels.FLOATS for kind in KINDS for axes in (1, 2, 3)}
TAKEN = {
    f"aten::{name}{axes}d{end}"
    for axes in (2, 3)
    for name, end in (
        *(("avg_pool", end) for end in ("", "_backward")),
        *(("max_pool", end) for end in ("_with_indices", "_with_indices_backward")),
        *(("_adaptive_avg_pool", end) for end in ("", "_backward")),
        *(("adaptive_max_pool", end) for end in ("", "_backward")),
    )
}
CASES = {
    "segments": ((1, 4, 250), (100,), {"stride": 100, "ceil_mode": True}),
    "images": ((2, 8, 7, 9), (3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "without padding": ((2, 8, 7, 9), (3, 4), {"padding": (1, 2), "count_include_pad": False, "ceil_mode": True}),
    "divisor": ((2, 8, 7, 9), (3,), {"divisor_override": 5}),
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN, most=6)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", opinfo_kernels.FLOATS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_means(name, dtype, channels_last):
    size, kernel, options = CASES[name]
    x = reference.values(*size, dtype=dtype)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    function = F.avg_pool1d if x.dim() == 3 else F.avg_pool2d
    got, grad, seed = with_gradient(lambda x: function(x, kernel, **options), x, TAKEN)
    x.requires_grad_()
    want = function(x, kernel, **options)
    assert got.stride() == want.stride()
    limit = {torch.float32: 1e-5, torch.float64: 1e-10}.get(dtype, 4e-2)
    for ours, peer in ((got.detach(), want.detach()), (grad, torch.autograd.grad(want, x, seed)[0])):
        torch.testing.assert_close(ours.cpu(), peer, rtol=limit, atol=limit)


OTHERS = {
    "ResNet": ((2, 8, 7, 9), lambda x: F.max_pool2d(x, 3, 2, 1)),
    "dilated": ((2, 3, 9, 8), lambda x: F.max_pool2d(x, 2, 1, 1, 2, True)),
    "signals": ((2, 3, 17), lambda x: F.max_pool1d(x, 3, 2, 1)),
    "volumes": ((2, 3, 4, 6, 5), lambda x: F.max_pool3d(x, 2, padding=1)),
    "means of volumes": ((2, 3, 4, 6, 5), lambda x: F.avg_pool3d(x, 2, padding=1, count_include_pad=False)),
    "pyramid": ((2, 4, 7, 9), lambda x: F.adaptive_avg_pool2d(x, (3, 6))),
    "adaptive volumes": ((1, 4, 3, 4, 5), lambda x: F.adaptive_avg_pool3d(x, (2, 1, 3))),
    "adaptive maxima": ((2, 4, 7, 9), lambda x: F.adaptive_max_pool2d(x, (3, 4))),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OTHERS)
def test_maxima_volumes_and_adaptive_windows(name, dtype, channels_last):
    size, function = OTHERS[name]
    x = reference.values(*size, dtype=dtype)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    got, grad, seed = with_gradient(function, x, TAKEN)
    wide = x.double().requires_grad_()
    want = function(wide)
    limit = {torch.float32: 1e-5}.get(dtype, 4e-2)
    for ours, exact in ((got.detach(), want.detach()), (grad, torch.autograd.grad(want, wide, seed.double())[0])):
        torch.testing.assert_close(ours.cpu().double(), exact, rtol=limit, atol=limit)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.max_pool2d(x, 9),
        lambda x: F.max_pool2d(x, 2, padding=2),
        lambda x: F.adaptive_avg_pool2d(x, (-1, 2)),
        lambda x: F.avg_pool2d(x, 9),
        lambda x: F.avg_pool2d(x, 2, padding=2),
        lambda x: F.avg_pool2d(x, 2, stride=0),
        lambda x: F.avg_pool2d(x, 2, divisor_override=0),
    ],
    ids=["too small for maxima", "padding of maxima", "adaptive", "too small", "padding", "stride", "divisor"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(2, 3, 5, 4)
    with pytest.raises(RuntimeError) as on_cpu:
        call(x)
    with pytest.raises(RuntimeError) as on_the_card:
        call(*on_card(x))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
