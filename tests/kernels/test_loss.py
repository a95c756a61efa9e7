"""nll_loss's kernels as the emulator runs them, against float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded

THREADS, SHARED_BYTES, GRAD_THREADS = 1024, 512, 256
REDUCTIONS = ("none", "mean", "sum")


class Params(ctypes.Structure):
    """LossParams of csrc/kernels/loss.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in_", "target", "weight", "grad", "out", "total_weight")),
        *((name, ctypes.c_longlong) for name in ("samples", "classes", "inner", "ignore_index")),
        ("reduction", ctypes.c_int),
    )


@pytest.fixture(scope="module")
def card():
    return emulator.load(800)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 5, 1), (7, 33, 1), (1500, 3, 1), (2, 4, 35)], ids=str)
def test_forward_and_backward(card, dtype, shape, reduction, weighted):
    samples, classes, inner = shape
    x = guarded(reference.values(*shape, dtype=DTYPES[dtype]))
    target = guarded(reference.values(samples, inner, dtype=torch.int64).remainder(classes))
    target[0, -1] = ignored = -100
    weight = guarded(reference.values(classes, dtype=x.dtype, seed=1).abs()) if weighted else None
    many = reduction == "none"
    out, total = (guarded(torch.full(size, 77, dtype=x.dtype)) for size in ((samples, inner) if many else (1,), (1,)))
    p = Params(x.data_ptr(), target.data_ptr(), weight.data_ptr() if weighted else None, None, out.data_ptr())
    p.total_weight, p.reduction, p.ignore_index = total.data_ptr(), REDUCTIONS.index(reduction), ignored
    p.samples, p.classes, p.inner = shape
    card.launch(f"compat_loss_nll_{dtype}", ceil_div(target.numel(), THREADS) if many else 1, THREADS, SHARED_BYTES, p)
    wide = x.double().requires_grad_()
    of_class = weight.double() if weighted else None
    want = torch.nn.functional.nll_loss(wide, target, of_class, reduction=reduction)
    eps = torch.finfo(x.dtype).eps
    torch.testing.assert_close(
        out.double().view(want.shape), want.detach(), rtol=4 * eps, atol=32 * eps, equal_nan=True
    )
    if not many:
        counted = (of_class if weighted else torch.ones(classes).double())[target[target >= 0]].sum()
        torch.testing.assert_close(total[0].double(), counted, rtol=4 * eps, atol=0)
    grad = guarded(reference.values(*want.shape, dtype=x.dtype, seed=2).reshape(-1))
    result = guarded(torch.full(shape, 77, dtype=x.dtype))
    p.grad, p.out = grad.data_ptr(), result.data_ptr()
    blocks = ceil_div(x.numel() * x.element_size(), 16 * GRAD_THREADS)
    card.launch(f"compat_loss_nll_grad_{dtype}", blocks, GRAD_THREADS, 0, p)
    (exact,) = torch.autograd.grad(want, wide, grad.double().view(want.shape))
    if reduction == "mean":
        exact = exact.nan_to_num() * torch.nan_to_num(counted / total[0].double())  # as rounded
    torch.testing.assert_close(result.double(), exact, rtol=4 * eps, atol=4 * eps)


def test_a_target_that_is_no_class(card):
    x, target = guarded(torch.ones(2, 3)), guarded(torch.tensor([1, 3]))
    out, total = guarded(torch.zeros(2)), guarded(torch.zeros(1))
    p = Params(x.data_ptr(), target.data_ptr(), None, None, out.data_ptr(), total.data_ptr(), 2, 3, 1, -100, 0)
    card.launch("compat_loss_nll_f32", 1, THREADS, SHARED_BYTES, p)
    assert out[0] == -1
    assert out[1].isnan()
