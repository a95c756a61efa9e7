"""softmax and log_softmax in mode kernel: PyTorch's own suite, and what models ask beyond it."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card, only_ours, reset
from opinfo_kernels import FLOATS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")
FUNCTIONS = ("_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data")
TAKEN = {f"aten::{name}{overload}" for name in FUNCTIONS for overload in ("", ".out")}
OPS = dict.fromkeys(("softmax", "log_softmax", "softmax_with_dtype", "nn_functional_softmin"), FLOATS)
# attention of a decoded token and of a prompt, logits of a large vocabulary, channels of an image
SHAPES = [((1, 28, 1, 513), -1), ((1, 4, 96, 96), -1), ((3, 32768), -1), ((2, 5, 24, 24), 1), ((1, 2, 700), 2), ((), 0)]


def fell_back():
    return {line.op for line in bc.fallbacks().lines} & TAKEN


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_opinfo(name, dtype):
    check(name, dtype, TAKEN, most=5)


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_shapes_of_models(shape, dim, dtype, function):
    x = (reference.values(*shape, dtype=dtype) * 3).requires_grad_()
    seed = reference.values(*shape, dtype=dtype, seed=1)
    there = on_card(x)[0]
    reset()
    bc.reset_fallbacks()
    got = function(there, dim)
    (grad,) = torch.autograd.grad(got, there, seed.to(CARD))
    only_ours()
    assert not fell_back()
    wide = x.detach().double().requires_grad_()
    want = function(wide, dim)
    (want_grad,) = torch.autograd.grad(want, wide, seed.double())
    limit = {torch.float32: 1e-5, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(got.detach().cpu().double(), want.detach(), rtol=limit, atol=limit)
    torch.testing.assert_close(grad.cpu().double(), want_grad, rtol=limit, atol=limit * max(1, want_grad.abs().max()))


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
def test_any_strides(function):
    x = reference.values(6, 40, 10)
    for view in (lambda t: t.transpose(0, 2), lambda t: t[:, ::2, 1:], lambda t: t[:, :1].expand(6, 7, 10)):
        there = view(on_card(x)[0])
        for dim in range(3):
            bc.reset_fallbacks()
            got = function(there, dim)
            assert not fell_back()
            want = function(view(x), dim)
            assert got.stride() == want.stride()
            torch.testing.assert_close(got.cpu(), want)


def test_empty():
    for shape, dim in (((0, 4), 1), ((4, 0), 1), ((0,), 0)):
        x = torch.empty(shape)
        assert torch.softmax(on_card(x)[0], dim).shape == shape


def test_masked_rows():
    x = reference.values(4, 5, 50)
    x[1, 2] = -torch.inf
    x[2, :, 10:] = -torch.inf
    x[3, 0, 3], x[3, 1, 3] = torch.nan, torch.inf
    for function in (torch.softmax, torch.log_softmax):
        for dim in (1, 2):
            torch.testing.assert_close(function(on_card(x)[0], dim).cpu(), function(x, dim), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_in_and_float_out(dtype):
    """What only CUDA has: no copy of the input in float32 is made."""
    x = reference.values(3, 70, dtype=dtype).requires_grad_()
    there = on_card(x)[0]
    reset()
    got = torch.softmax(there, 1, dtype=torch.float32)
    (grad,) = torch.autograd.grad(got[:, 0].sum(), there)
    only_ours()
    want = torch.softmax(x, 1, dtype=torch.float32)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.detach().cpu(), want.detach())
    torch.testing.assert_close(grad.cpu(), torch.autograd.grad(want[:, 0].sum(), x)[0])


def test_the_same_bits_each_time():
    x = on_card(reference.values(2, 20000))[0]
    assert torch.equal(torch.softmax(x, 1).cpu(), torch.softmax(x, 1).cpu())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.softmax(x, 2),
        lambda x: torch.softmax(x, 0, dtype=torch.int32),
        lambda x: torch.softmax(x.int(), 0),
        lambda x: torch.ops.aten._softmax.out(x, 0, False, out=x.double()),
    ],
    ids=["dimension", "to integers", "of integers", "out"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(3, 4)
    with pytest.raises((RuntimeError, IndexError)) as on_cpu:
        call(x)
    with pytest.raises(on_cpu.type) as on_the_card:
        call(on_card(x)[0])
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
