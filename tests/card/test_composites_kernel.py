"""Ops that are made of others with kernels, and glu and grid_sample, in mode kernel: the CPU is not asked."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")
F = torch.nn.functional
FLOAT, HALVES = (torch.float32,), (torch.float32, torch.bfloat16)
OPS = {
    "nn_functional_glu": opinfo_kernels.FLOATS,
    "nn_functional_hardshrink": HALVES,
    "nn_functional_softshrink": HALVES,
    "nn_functional_unfold": HALVES,
    "nn_functional_fold": FLOAT,
    "nn_functional_conv3d": HALVES,
    "unique": (torch.float32, torch.int64, torch.bool),
    "unique_consecutive": (torch.float32, torch.int64),
    "bincount": (torch.int64, torch.uint8),
    "searchsorted": (torch.float32, torch.int64),
    "bucketize": (torch.float32, torch.int64),
    "nansum": HALVES,
    "dot": FLOAT,
    "vdot": FLOAT,
    "mv": FLOAT,
    "addmv": FLOAT,
    "aminmax": (torch.float32, torch.bfloat16, torch.int64, torch.bool),
    "count_nonzero": (torch.float32, torch.int64, torch.bool),
    "logit": FLOAT,  # of bfloat16 the CPU rounds its gradient three times
    "sinc": HALVES,
}
TAKEN = {
    f"aten::{name}"
    for name in (
        *(
            "glu",
            "glu_backward",
            "hardshrink",
            "hardshrink_backward",
            "softshrink",
            "softshrink_backward",
            "_prelu_kernel",
        ),
        *("im2col", "col2im", "grid_sampler_2d"),
        *("_unique2", "unique_consecutive", "nansum", "dot", "vdot", "addmv", "addmv_"),
        *("aminmax", "count_nonzero.dim_IntList", "logit", "logit_backward", "sinc"),
        *("_amp_foreach_non_finite_check_and_unscale_", "_amp_update_scale_"),
    )
}


def nothing_fell_back(taken=TAKEN):
    fell = {line.op for line in bc.fallbacks().lines} & taken
    assert not fell, fell


@pytest.mark.parametrize(
    ("name", "dtype"), opinfo_kernels.entries({n: d for n, d in OPS.items() if n in opinfo_kernels.OPS})
)
def test_pytorchs_suite(name, dtype):
    with_empty_and_dims = {"aten::im2col", "aten::col2im", "aten::unique_consecutive"}  # which PyTorch's kernels do
    opinfo_kernels.check(name, dtype, TAKEN - with_empty_and_dims, most=6)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("size", "of_weight", "options"),
    [
        ((2, 3, 2, 8, 8), (6, 3, 2, 4, 4), {"stride": (2, 4, 4)}),
        ((1, 4, 5, 6, 6), (6, 4, 3, 3, 3), {"padding": 1}),
        (
            (2, 4, 6, 5, 7),
            (4, 2, 3, 1, 2),
            {"padding": (1, 0, 1), "dilation": (2, 1, 1), "stride": (2, 1, 2), "groups": 2},
        ),
        ((1, 4, 5, 6, 6), (6, 4, 3, 1, 1), {}),
    ],
    ids=["patches", "3x3x3", "groups", "temporal"],
)
def test_convolutions_of_volumes(size, of_weight, options, dtype):
    arguments = [
        reference.values(*s, dtype=dtype, seed=i).requires_grad_()
        for i, s in enumerate((size, of_weight, of_weight[:1]))
    ]
    there = on_card(*arguments)
    reset()
    bc.reset_fallbacks()
    got = F.conv3d(*there, **options)
    seed = reference.values(*got.shape, dtype=dtype, seed=9)
    grads = torch.autograd.grad(got, there, seed.to(got.device))
    only_ours()
    nothing_fell_back({"aten::convolution", "aten::convolution_backward"})
    wide = [t.detach().double().requires_grad_() for t in arguments]
    want = F.conv3d(*wide, **options)
    limit = 1e-4 if dtype == torch.float32 else 4e-2
    for ours, exact in zip((got, *grads), (want, *torch.autograd.grad(want, wide, seed.double())), strict=True):
        assert ours.is_contiguous()
        torch.testing.assert_close(
            ours.detach().cpu().double(), exact.detach(), rtol=limit, atol=limit * exact.abs().max().item()
        )


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
def test_grid_sample(mode, outside):
    x, grid = reference.values(2, 3, 5, 7), reference.values(2, 4, 6, 2, seed=1) * 1.5
    there = on_card(x.transpose(2, 3), grid)
    reset()
    bc.reset_fallbacks()
    got = F.grid_sample(*there, mode, outside, False)
    only_ours()
    nothing_fell_back()
    torch.testing.assert_close(got.cpu(), F.grid_sample(x.transpose(2, 3), grid, mode, outside, False))


@pytest.mark.parametrize("first", [1.0, float("inf"), float("nan")])
def test_the_scale_of_gradients(first):
    def steps(device):
        weight = torch.nn.Parameter(torch.ones(3, device=device))
        optimizer = torch.optim.SGD([weight], 0.5)
        scaler = torch.amp.GradScaler(device, init_scale=8.0, growth_interval=2)
        scales = []
        for value in (first, 1.0, 2.0):
            optimizer.zero_grad()
            scaler.scale((weight * torch.tensor([value, 1.0, 1.0], device=device)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        return weight.detach().cpu(), scales

    want = steps("cpu")
    bc.reset_fallbacks()
    got = steps("cuda")
    nothing_fell_back()
    assert got[1] == want[1]
    torch.testing.assert_close(got[0], want[0])


def test_counts_and_places():
    x = torch.tensor([3, 1, 3, 7, 1, 0, 2, 2])
    (there,) = on_card(x)
    bc.reset_fallbacks()
    pairs = [
        (call(there), call(x))
        for call in (
            lambda t: torch.bincount(t, minlength=12),
            lambda t: torch.bincount(t, t.float()),
            lambda t: torch.bucketize(t, torch.tensor([1, 2, 5], device=t.device), right=True, out_int32=True),
            lambda t: torch.searchsorted(t.sort()[0], t, side="right"),
            lambda t: torch.searchsorted(t, t, sorter=t.argsort(stable=True)),
            lambda t: torch.arange(0, 8, 2.0, dtype=torch.int64, device=t.device),
            lambda t: t.masked_fill(t > 2, 4.0),
            lambda t: F.pad(t, (-2, -1)),
            lambda t: F.pad(t, (0, 0)),
        )
    ]
    names = (
        "bincount",
        "bucketize.Tensor",
        "searchsorted.Tensor",
        "arange.start_out",
        "constant_pad_nd",
        "masked_fill_.Scalar",
    )
    nothing_fell_back({f"aten::{name}" for name in names})
    for got, want in pairs:
        assert got.dtype == want.dtype
        assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize("options", [{"padding": 1}, {"dilation": (1, 2), "stride": (2, 1)}], ids=str)
def test_blocks_of_images(options):
    x = reference.values(2, 3, 6, 7).requires_grad_()
    (there,) = on_card(x)
    bc.reset_fallbacks()
    got = F.unfold(there, (2, 3), **options)
    (grad,) = torch.autograd.grad(got.square().sum(), there)
    nothing_fell_back()
    want = F.unfold(x, (2, 3), **options)
    assert torch.equal(got.detach().cpu(), want.detach())
    torch.testing.assert_close(grad.cpu(), torch.autograd.grad(want.square().sum(), x)[0])


def test_runs_of_equal_values():
    x = torch.tensor([[1, 1, 2], [2, 2, 5]])
    (there,) = on_card(x)
    bc.reset_fallbacks()
    got = torch.unique_consecutive(there, return_inverse=True, return_counts=True)
    nothing_fell_back()
    for ours, peer in zip(got, torch.unique_consecutive(x, return_inverse=True, return_counts=True), strict=True):
        assert torch.equal(ours.cpu(), peer)


@pytest.mark.parametrize(
    "options", [{}, {"dim": -1}, {"dim": (0, 2), "keepdim": True, "dtype": torch.float64}], ids=str
)
def test_sums_of_what_is_a_number(options):
    x = reference.values(2, 3, 5)
    x[0, 1, 2], x[1, 0, 0] = float("nan"), float("inf")
    (there,) = on_card(x)
    bc.reset_fallbacks()
    got = torch.nansum(there, **options)
    nothing_fell_back()
    torch.testing.assert_close(got.cpu(), torch.nansum(x, **options))


def test_prelu_keeps_its_gradient():
    arguments = [reference.values(2, 3, 5).requires_grad_(), reference.values(3, seed=1).requires_grad_()]
    there = on_card(*arguments)
    bc.reset_fallbacks()
    got = F.prelu(*there)
    nothing_fell_back()
    want = F.prelu(*arguments)
    torch.testing.assert_close(got.detach().cpu(), want.detach())
    for ours, peer in zip(
        torch.autograd.grad(got.sum(), there), torch.autograd.grad(want.sum(), arguments), strict=True
    ):
        torch.testing.assert_close(ours.cpu(), peer)


@pytest.mark.parametrize("eps", [-0.1, 0.5, 0.6, 1.0, float("nan")])
def test_bounds_of_logit(eps):
    x = torch.tensor([-0.05, 0.1, 0.5, 0.9, 1.5]).requires_grad_()
    (there,) = on_card(x)
    bc.reset_fallbacks()
    got, want = torch.logit(there, eps), torch.logit(x, eps)
    nothing_fell_back()
    torch.testing.assert_close(got.detach().cpu(), want.detach(), equal_nan=True)
    grads = torch.autograd.grad(got.sum(), there), torch.autograd.grad(want.sum(), x)
    torch.testing.assert_close(grads[0][0].cpu(), grads[1][0], equal_nan=True)


@pytest.mark.parametrize("eps", [None, 0.1])
def test_logit_of_halves_is_rounded_once(eps):
    x = reference.values(400, dtype=torch.bfloat16).sigmoid().requires_grad_()
    there, seed = on_card(x, reference.values(400, dtype=torch.bfloat16, seed=1))
    bc.reset_fallbacks()
    got = torch.logit(there, eps)
    (grad,) = torch.autograd.grad(got, there, seed)
    nothing_fell_back()
    wide = x.detach().double().requires_grad_()
    want = torch.logit(wide, eps)
    (exact,) = torch.autograd.grad(want, wide, seed.cpu().double())
    for ours, peer in ((got.detach(), want.detach()), (grad, exact)):
        torch.testing.assert_close(ours.cpu().double(), peer, rtol=2**-8, atol=0)
