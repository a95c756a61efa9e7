"""Running sums, products and extremes in mode kernel: PyTorch's own suite, and what models ask beyond it."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card, only_ours, reset
from opinfo_kernels import ALL, FLOATS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")
TAKEN = {
    *(f"aten::{name}{overload}" for name in ("cumsum", "cumprod") for overload in ("", ".out", "_")),
    *("aten::_logcumsumexp", "aten::_logcumsumexp.out", "aten::_cummax_helper", "aten::_cummin_helper"),
}
OPS = {"cumsum": ALL, "cumprod": ALL, "cummax": ALL, "cummin": (torch.float32, torch.int64), "logcumsumexp": FLOATS}


def fell_back():
    return {line.op for line in bc.fallbacks().lines} & TAKEN


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_opinfo(name, dtype):
    check(name, dtype, TAKEN, most=4)


@pytest.mark.parametrize("function", [torch.cumsum, torch.cumprod, torch.logcumsumexp])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((1, 80), 1),
        ((1, 700, 9), 1),
        ((2, 30000), 1),
        ((3, 4, 5), 0),
        ((), 0),
        ((0, 4), 1),
    ],  # phases of harmonics are (1, n, 9)
    ids=str,
)
def test_shapes(function, shape, dim):
    x = reference.values(*shape) / 8 + (1 if function is torch.cumprod else 0)
    there = on_card(x)[0]
    bc.reset_fallbacks()
    got = function(there, dim)
    assert not fell_back()
    want = function(x.double(), dim)
    torch.testing.assert_close(got.cpu().double(), want, rtol=1e-4, atol=1e-4)


def test_masks_to_positions():
    mask = reference.values(4, 90) > 0
    there = on_card(mask)[0]
    reset()
    got = there.cumsum(-1)
    only_ours()
    assert torch.equal(got.cpu(), mask.cumsum(-1))
    assert torch.equal(
        there.to(torch.int32).cumsum(0, dtype=torch.int32).cpu(), mask.int().cumsum(0, dtype=torch.int32)
    )


def test_in_place_and_strided():
    x = reference.values(6, 40)
    there = on_card(x)[0]
    there.t()[::2].cumsum_(1)
    want = x.clone()
    want.t()[::2].cumsum_(1)
    torch.testing.assert_close(there.cpu(), want, rtol=1e-5, atol=1e-5)


def test_gradients():
    x = reference.values(3, 50).requires_grad_()
    there = on_card(x)[0]
    for function in (torch.cumsum, torch.logcumsumexp, lambda t, dim: torch.cummax(t, dim).values):
        (grad,) = torch.autograd.grad(function(there, 1).square().sum(), there)
        (want,) = torch.autograd.grad(function(x, 1).square().sum(), x)
        torch.testing.assert_close(grad.cpu(), want, rtol=1e-4, atol=1e-4)


def test_the_same_bits_each_time():
    x = on_card(reference.values(2, 20000))[0]
    assert torch.equal(x.cumsum(1).cpu(), x.cumsum(1).cpu())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.cumsum(2),
        lambda x: x.int().cumsum_(0, dtype=torch.float32),
        lambda x: torch.cumsum(x, 0, dtype=torch.float32, out=x.double()),
        lambda x: x.cummax(3),
    ],
    ids=["dimension", "in place", "out", "cummax"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(3, 4)
    with pytest.raises((RuntimeError, IndexError)) as on_cpu:
        call(x)
    with pytest.raises(on_cpu.type) as on_the_card:
        call(x.to(CARD))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
