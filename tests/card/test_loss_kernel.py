"""Losses in mode kernel: PyTorch's own suite, and what training asks beyond it."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card, only_ours, reset
from opinfo_kernels import FLOATS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
TAKEN = {
    *(f"aten::{name}_forward{overload}" for name in ("nll_loss", "nll_loss2d") for overload in ("", ".output")),
    *(f"aten::{name}_backward{overload}" for name in ("nll_loss", "nll_loss2d") for overload in ("", ".grad_input")),
    *(
        f"aten::{name}{form}"
        for name in ("mse_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy")
        for form in ("", "_backward")
    ),
}
LOSSES = ("nll_loss", "cross_entropy", "mse_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy", "l1_loss")
OPS = {f"nn_functional_{name}": FLOATS for name in LOSSES}


def fell_back():
    return {line.op for line in bc.fallbacks().lines} & TAKEN


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_opinfo(name, dtype):
    check(name, dtype, TAKEN, most=6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("shape", "reduction"), [((40, 5025), "mean"), ((30, 101), "sum"), ((2, 5, 6, 7), "mean"), ((5,), "mean")]
)
def test_cross_entropy(shape, reduction, dtype):
    """As a language model's training has it, some targets ignored."""
    logits = reference.values(*shape, dtype=dtype).requires_grad_()
    classes = shape[1] if len(shape) > 1 else shape[0]
    target = reference.values(*shape[:1] if len(shape) > 1 else (), *shape[2:], dtype=torch.int64).remainder(classes)
    if target.dim():
        target[0] = -100
    there, of_card = on_card(logits, target)
    reset()
    bc.reset_fallbacks()
    got = F.cross_entropy(there, of_card, reduction=reduction)
    (grad,) = torch.autograd.grad(got, there)
    only_ours()
    assert not fell_back()
    wide = logits.detach().double().requires_grad_()
    want = F.cross_entropy(wide, target, reduction=reduction)
    (exact,) = torch.autograd.grad(want, wide)
    limit = {torch.float32: 1e-5, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(got.detach().cpu().double(), want.detach(), rtol=limit, atol=limit)
    torch.testing.assert_close(grad.cpu().double(), exact, rtol=limit, atol=limit * exact.abs().max().item())


def test_smoothed_and_probable_targets():
    logits, target = reference.values(12, 9), reference.values(12, dtype=torch.int64).remainder(9)
    there = on_card(logits, target, logits.softmax(1))
    got = F.cross_entropy(*there[:2], label_smoothing=0.1)
    torch.testing.assert_close(got.cpu(), F.cross_entropy(logits, target, label_smoothing=0.1))
    torch.testing.assert_close(F.cross_entropy(there[0], there[2]).cpu(), F.cross_entropy(logits, logits.softmax(1)))


def test_nothing_but_ignored():
    x, target = on_card(reference.values(3, 4), torch.full((3,), -100))
    assert F.nll_loss(x, target).isnan().item()
    assert F.nll_loss(x, target, reduction="sum").item() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.nll_loss(x, torch.zeros(4, dtype=torch.int64, device=x.device)),
        lambda x: F.nll_loss(x, torch.zeros(3, device=x.device)),
        lambda x: F.nll_loss(x, torch.zeros(3, dtype=torch.int64, device=x.device), x[0, :2]),
    ],
    ids=["sizes", "dtype", "weight"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(3, 4)
    with pytest.raises((RuntimeError, ValueError)) as on_cpu:
        call(x)
    with pytest.raises(on_cpu.type) as on_the_card:
        call(x.to(CARD))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]


@pytest.mark.parametrize(
    ("x", "target"), [(0.2, 1.5), (0.2, -0.1), (1.5, 0.5), (-0.5, 0.5), (float("nan"), 0.5), (0.5, float("nan"))]
)
def test_no_probability_is_not_a_number(x, target):
    got = F.binary_cross_entropy(*on_card(torch.tensor([0.5, x]), torch.tensor([0.5, target])), reduction="none").cpu()
    assert got[1].isnan()
    torch.testing.assert_close(got[0], torch.tensor(0.5).log().neg())


@pytest.mark.parametrize("transposed", [0, 1])
def test_losses_have_the_strides_of_the_input(transposed):
    arguments = [reference.values(3, 4).sigmoid(), reference.values(3, 4, seed=1).sigmoid()]
    arguments[transposed] = arguments[transposed].t().contiguous().t()
    for loss in (F.binary_cross_entropy, F.mse_loss, F.smooth_l1_loss, F.huber_loss):
        got, want = loss(*on_card(*arguments), reduction="none"), loss(*arguments, reduction="none")
        assert got.stride() == want.stride()
        torch.testing.assert_close(got.cpu(), want)
