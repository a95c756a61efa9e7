"""Means over windows by this package's kernels, in mode kernel."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
OPS = dict.fromkeys(("nn_functional_avg_pool1d", "nn_functional_avg_pool2d"), opinfo_kernels.FLOATS)
TAKEN = {"aten::avg_pool2d", "aten::avg_pool2d_backward"}
CASES = {
    "segments": ((1, 4, 250), (100,), {"stride": 100, "ceil_mode": True}),
    "images": ((2, 8, 7, 9), (3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "without padding": ((2, 8, 7, 9), (3, 4), {"padding": (1, 2), "count_include_pad": False, "ceil_mode": True}),
    "divisor": ((2, 8, 7, 9), (3,), {"divisor_override": 5}),
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN, most=8)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", opinfo_kernels.FLOATS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_means(name, dtype, channels_last):
    size, kernel, options = CASES[name]
    x = reference.values(*size, dtype=dtype)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    function = F.avg_pool1d if x.dim() == 3 else F.avg_pool2d
    there = on_card(x)[0].requires_grad_()
    reset()
    bc.reset_fallbacks()
    got = function(there, kernel, **options)
    seed = reference.values(*got.shape, dtype=dtype, seed=1)
    (grad,) = torch.autograd.grad(got, there, seed.to(got.device))
    only_ours()
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN
    x.requires_grad_()
    want = function(x, kernel, **options)
    assert got.stride() == want.stride()
    limit = {torch.float32: 1e-5, torch.float64: 1e-10}.get(dtype, 4e-2)
    for ours, peer in ((got.detach(), want.detach()), (grad, torch.autograd.grad(want, x, seed)[0])):
        torch.testing.assert_close(ours.cpu(), peer, rtol=limit, atol=limit)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.avg_pool2d(x, 9),
        lambda x: F.avg_pool2d(x, 2, padding=2),
        lambda x: F.avg_pool2d(x, 2, stride=0),
        lambda x: F.avg_pool2d(x, 2, divisor_override=0),
    ],
    ids=["too small", "padding", "stride", "divisor"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(2, 3, 5, 4)
    with pytest.raises(RuntimeError) as on_cpu:
        call(x)
    with pytest.raises(RuntimeError) as on_the_card:
        call(*on_card(x))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
