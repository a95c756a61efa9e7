"""Convolutions of images by this package's kernels, in mode kernel."""

import blackwell_compat as bc
import fakecard
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")
F = torch.nn.functional
OPS = {"nn_functional_conv2d": opinfo_kernels.FLOATS, "nn_functional_conv_transpose2d": opinfo_kernels.FLOATS}
TAKEN = {"aten::convolution", "aten::convolution_backward"}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN, most=6)


CASES = {  # input, weight, options
    "first of a speaker encoder": ((1, 1, 16, 31), (32, 1, 3, 3), {"padding": 1}),
    "speaker encoder": ((1, 32, 16, 31), (64, 32, 3, 3), {"padding": 1, "stride": (2, 1)}),
    "its shortcut": ((1, 32, 16, 31), (64, 32, 1, 1), {"stride": 2}),
    "UNet": ((2, 40, 9, 9), (72, 40, 3, 3), {"padding": 1}),
    "1 by 1": ((2, 40, 9, 9), (72, 40, 1, 1), {}),
    "patches": ((1, 3, 16, 16), (20, 3, 4, 4), {"stride": 4}),
    "depthwise": ((2, 12, 9, 11), (12, 1, 5, 5), {"padding": 2, "groups": 12}),
    "groups": ((2, 18, 9, 11), (12, 9, 3, 3), {"dilation": 2, "groups": 2}),
    "few positions": ((1, 136, 3, 3), (8, 136, 3, 3), {"padding": 1}),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", opinfo_kernels.FLOATS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_models(name, dtype, channels_last):
    x_size, w_size, options = CASES[name]
    x, w = reference.values(*x_size, dtype=dtype, seed=1), reference.values(*w_size, dtype=dtype, seed=2)
    b = reference.values(w_size[0], dtype=dtype, seed=3)
    if channels_last:
        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
    there = on_card(x, w, b)
    reset()
    bc.reset_fallbacks()
    with torch.no_grad():
        got = F.conv2d(*there, **options)
    launched = only_ours()
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN
    if fakecard.here():
        assert {kernel.split("_")[1] for kernel in launched} <= {"conv2d", "conv1d", "gemm", "gemv"}, launched
    exact = F.conv2d(x.double(), w.double(), b.double(), **options)
    magnitude = F.conv2d(x.double().abs(), w.double().abs(), b.double().abs(), **options)
    reference.assert_rounded(got.cpu(), exact, magnitude)
    assert got.stride() == F.conv2d(x, w, b, **options).stride()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients(dtype, transposed):
    function = F.conv_transpose2d if transposed else F.conv2d
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    sizes = (2, 12, 7, 9), (12, 10, 3, 2) if transposed else (20, 6, 3, 2), (20,)
    arguments = [reference.values(*size, dtype=dtype, seed=i).requires_grad_() for i, size in enumerate(sizes)]
    there = on_card(*arguments)
    bc.reset_fallbacks()
    got = function(*there, **options)
    seed = reference.values(*got.shape, dtype=dtype, seed=9)
    grads = torch.autograd.grad(got, there, seed.to(got.device))
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN
    wide = [t.detach().double().requires_grad_() for t in arguments]
    exact = torch.autograd.grad(function(*wide, **options), wide, seed.double())
    large = [t.detach().double().abs().requires_grad_() for t in arguments]
    magnitude = torch.autograd.grad(function(*large, **options), large, seed.double().abs())
    for grad, want, of in zip(grads, exact, magnitude, strict=True):
        reference.assert_rounded(grad.cpu(), want, of)


def test_any_strides():
    x = reference.values(2, 20, 9, 2 * 7)[..., ::2]
    w = reference.values(3, 3, 6, 20).permute(2, 3, 1, 0)
    with torch.no_grad():
        got = F.conv2d(*on_card(x, w), padding=1)
        torch.testing.assert_close(got.cpu(), F.conv2d(x, w, padding=1), rtol=1e-5, atol=1e-5)


def test_the_same_bits_again():
    x, w = on_card(reference.values(1, 136, 3, 3), reference.values(8, 136, 3, 3))
    with torch.no_grad():
        assert torch.equal(F.conv2d(x, w).cpu(), F.conv2d(x, w).cpu())


def test_values_that_are_no_numbers():
    x, w = reference.values(1, 8, 5, 5), reference.values(8, 8, 3, 3)
    x[0, 0, 0, 0], x[0, 1, 4, 4] = float("nan"), float("inf")
    with torch.no_grad():
        got = F.conv2d(*on_card(x, w), padding=1)
    want = F.conv2d(x, w, padding=1)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.conv2d(x[:0], w),
        lambda x, w: F.conv2d(x.to(torch.complex64), w.to(torch.complex64)),
        lambda x, w: F.conv2d(x[0], w),
    ],
    ids=["no samples", "complex", "without batch"],
)
def test_others(call):
    x, w = reference.values(2, 3, 6, 7), reference.values(4, 3, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(call(*on_card(x, w)).cpu(), call(x, w), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.conv2d(x, w[:, :2]),
        lambda x, w: F.conv2d(x, w, w[0, 0, 0]),
        lambda x, w: F.conv2d(x, w, groups=2),
        lambda x, w: F.conv2d(x[..., :2], w),
        lambda x, w: F.conv2d(x, w, stride=0),
        lambda x, w: F.conv2d(x, w.double()),
        lambda x, w: F.conv_transpose2d(x, w.transpose(0, 1), output_padding=1),
    ],
    ids=["channels", "bias", "groups", "too small", "stride", "dtypes", "output_padding"],
)
def test_errors_are_pytorchs(call):
    x, w = reference.values(2, 3, 6, 7), reference.values(4, 3, 3, 3)
    with pytest.raises(RuntimeError) as on_cpu:
        call(x, w)
    with pytest.raises(RuntimeError) as on_the_card:
        call(*on_card(x, w))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
