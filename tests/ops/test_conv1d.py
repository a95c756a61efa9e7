"""compat_conv1d against torch.nn.functional.conv1d."""

import re

import opinfo
import pytest
import reference
import torch
import torch._dynamo.testing
from blackwell_compat import compat_conv1d
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

OP = torch.ops.blackwell_compat.compat_conv1d.default
NAMED_PADDING = torch.ops.blackwell_compat.compat_conv1d.padding
BACKWARD = torch.ops.blackwell_compat.compat_conv1d_backward.default
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
}

# C_in, C_out, K, L, the rest. What the workload models ask for, long signals and wide layers reduced
MODELS = [
    (1, 1, 3, 121, {"stride": 2, "padding": 1}),  # Kokoro: F0
    (256, 1, 1, 200, {}),
    (32, 1, 7, 4011, {"padding": 3}),  # waveform outputs
    (1, 1, 2, 9601, {}),  # pre-emphasis
    (1, 320, 459, 5000, {"stride": 441}),  # resampling
    (1, 2, 23, 1003, {"stride": 3}),
    (514, 1024, 3, 37, {"padding": 1}),
    (1090, 512, 1, 61, {}),
    (1090, 64, 3, 61, {"padding": 1}),
    (22, 256, 12, 1203, {"stride": 6, "padding": 3}),
    (128, 22, 7, 1201, {"padding": 3}),
    (18, 256, 30, 1501, {"stride": 15, "padding": 7}),  # Chatterbox: HiFT
    (64, 18, 7, 1501, {"padding": 3}),
    (128, 128, 11, 801, {"padding": 5}),  # Kokoro: odd length
    (128, 128, 11, 801, {"padding": 15, "dilation": 3}),
    (128, 128, 11, 801, {"padding": 25, "dilation": 5}),
    (64, 64, 7, 1103, {"padding": 36, "dilation": 12}),  # Piper
    (32, 32, 7, 1103, {"padding": 36, "dilation": 12}),
    (64, 64, 3, 151, {"padding": 9, "dilation": 9, "groups": 64}),  # VITS: durations
    (96, 96, 31, 129, {"padding": 15, "groups": 96}),  # S3 tokenizer
    (192, 192, 128, 49, {"padding": 64, "groups": 4}),  # wav2vec2: positions, even kernel
    (1, 512, 10, 2003, {"stride": 5}),  # wav2vec2
]
AWKWARD = [
    (1, 1, 1, 1, {}),
    (3, 5, 1, 1, {}),
    (7, 3, 4, 129, {"padding": 2}),
    (5, 31, 3, 151, {"stride": 3, "dilation": 2, "padding": 4}),
    (5, 33, 3, 372, {"stride": 7}),  # the stride is longer than the kernel
    (4, 6, 5, 30, {"padding": 40}),  # more padding than signal
    (16, 16, 3, 40, {"groups": 8}),  # two outputs a group: few
    (32, 12, 9, 77, {"groups": 4, "padding": 4}),
    (64, 5, 3, 77, {}),  # one more than few
    (6, 6, 2, 33, {"groups": 6, "stride": 2, "dilation": 5}),
    (6, 12, 3, 33, {"groups": 6}),  # depth multiplier
    (48, 96, 3, 64, {"groups": 3, "dilation": 2}),
    # minimal filtering: from 32 channels on, K = 3 g, 3 g + 1 and 3 g + 2, blocks shorter and longer than the signal
    (32, 32, 3, 1, {"padding": 1}),
    (32, 33, 3, 2, {"padding": 1}),
    (33, 32, 4, 97, {"padding": 2}),
    (32, 48, 5, 193, {"padding": 4, "dilation": 2}),
    (40, 32, 6, 500, {"padding": 3}),
    (33, 35, 8, 41, {"dilation": 3}),
    (32, 32, 10, 372, {"dilation": 7, "padding": 31}),
    (32, 32, 3, 50, {"dilation": 24}),
    (31, 32, 3, 150, {"padding": 1}),  # just not
    # windows, and whole blocks of them, that lie in the padding
    (3, 5, 1, 1, {"stride": 7, "padding": 3}),
    (8, 8, 1, 1, {"stride": 1000, "padding": 8500}),
    (20, 24, 3, 5, {"padding": 3000}),
    (32, 32, 3, 5, {"padding": 2000}),
    (24, 3, 3, 5, {"padding": 5000}),
    (6, 6, 3, 5, {"groups": 6, "padding": 6000}),
]


def make(c_in, c_out, k, length, groups=1, dtype=torch.float32, bias=True, batch=(2,)):
    x = reference.values(*batch, c_in, length, dtype=dtype)
    w = reference.values(c_out, c_in // groups, k, dtype=dtype, seed=1)
    return x, w, reference.values(c_out, dtype=dtype, seed=2) if bias else None


def rows(x):
    """The same values in strides (C * L, 1, C)."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def check(args, kwargs):
    got = compat_conv1d(*args, **kwargs)
    reference.assert_as_accurate(got, F.conv1d(*args, **kwargs), reference.in_float64(F.conv1d, *args, **kwargs))
    return got


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("c_in", "c_out", "k", "length", "kwargs"), MODELS + AWKWARD, ids=str)
def test_matches_float64_reference(c_in, c_out, k, length, kwargs, dtype, bias):
    batch = (1,) if length > 300 else (3,)
    args = make(c_in, c_out, k, length, kwargs.get("groups", 1), dtype, bias, batch)
    got = check(args, kwargs)
    assert got.is_contiguous()
    if min(c_in, length) > 1:
        got = check((rows(args[0]), *args[1:]), kwargs)
        assert min(got.shape[1:]) == 1 or got.stride() == (got[0].numel(), 1, got.size(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [(), (0,), (1,), (5,)], ids=["unbatched", "empty", "one", "five"])
@pytest.mark.parametrize(("c_in", "c_out", "k"), [(3, 6, 5), (40, 33, 3), (40, 2, 3)], ids=str)
def test_batch_sizes(c_in, c_out, k, batch, dtype):
    check(make(c_in, c_out, k, 70, dtype=dtype, batch=batch), {"padding": 1})


def test_no_input_channels():
    args = torch.zeros(2, 0, 9), torch.zeros(4, 0, 3), torch.ones(4)
    assert torch.equal(compat_conv1d(*args), F.conv1d(*args))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("k", "dilation"), [(1, 1), (3, 1), (4, 1), (4, 3), (5, 2), (8, 1)], ids=str)
@pytest.mark.parametrize(("groups", "c"), [(1, 8), (1, 32), (4, 8), (8, 8)], ids=str)
def test_named_padding(groups, c, k, dilation, padding, dtype):
    x, w, b = make(c, c, k, 45, groups, dtype)
    kwargs = {"padding": padding, "dilation": dilation, "groups": groups}
    for layout in (torch.Tensor.contiguous, rows):
        assert check((layout(x), w, b), kwargs).stride() == layout(compat_conv1d(x, w, b, **kwargs)).stride()
    check((x[0], w, None), kwargs)


def test_arguments_as_sequences():
    args = make(4, 6, 3, 50, 2)
    want = compat_conv1d(*args, 2, 1, 3, 2)
    assert torch.equal(compat_conv1d(*args, (2,), [1], (3,), 2), want)
    valid = compat_conv1d(*args, stride=[2], padding="valid", dilation=(3,), groups=2)
    assert torch.equal(valid, compat_conv1d(*args, 2, 0, 3, 2))


STRIDED = {
    "part of a longer signal": lambda x: torch.cat([x, x], -1)[..., 3 : 3 + x.size(-1)],
    "part of the channels": lambda x: torch.cat([x, x], -2)[..., 1 : 1 + x.size(-2), :],
    "every other sample": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other channel": lambda x: x.repeat_interleave(2, -2)[..., ::2, :],
    "every other of the batch": lambda x: x.repeat_interleave(2, 0)[::2],
    "channels last": rows,
    "part of channels last": lambda x: rows(torch.cat([x, x], -1))[..., 3 : 3 + x.size(-1)],
    "part of the channels of channels last": lambda x: rows(torch.cat([x, x], 1))[:, 1 : 1 + x.size(1)],
    "batch in the middle": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "all axes reversed": lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("c_in", "c_out", "k", "groups"), [(6, 9, 3, 3), (34, 32, 3, 1), (6, 6, 4, 6), (8, 3, 4, 1)], ids=str
)
@pytest.mark.parametrize("view", STRIDED)
def test_strided_arguments(view, c_in, c_out, k, groups, dtype):
    x, w, b = make(c_in, c_out, k, 75, groups, dtype)
    strided, kwargs = STRIDED[view], {"padding": 1, "groups": groups}
    for args in ((strided(x), w, b), (x, strided(w), b), (strided(x), strided(w), b.repeat_interleave(2)[::2])):
        got = check(args, kwargs)
        assert got.is_contiguous() or (view == "channels last" and args[0] is not x)


def test_expanded_arguments():
    x, w, b = make(4, 36, 3, 60)
    check((x[:1].expand(3, 4, 60), w, b), {})
    check((x[:, :1].expand(2, 4, 60), w, b), {})
    check((x[..., :1].expand(2, 4, 60), w, b), {})
    check((x, w[:, :1].expand(36, 4, 3), b[:1].expand(36)), {})


def test_overlapping_windows_as_input():
    signal, w = reference.values(200), reference.values(8, 10, 3)
    check((signal.unfold(0, 10, 1).t()[None], w, None), {})
    check((signal.unfold(0, 10, 1)[None, :10], reference.values(8, 10, 3), None), {})


METHODS = {
    "rows": (12, 9, 5, 1, {}),
    "minimal": (36, 33, 4, 1, {"dilation": 2}),
    "few": (24, 3, 5, 1, {"stride": 2}),
    "depthwise": (10, 10, 3, 10, {}),
    "grouped": (12, 20, 3, 4, {"padding": 2}),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("pre", "post"), [(n, "none") for n in ACTIVATIONS] + [("leaky_relu", n) for n in ACTIVATIONS])
def test_activations(pre, post, method, layout, dtype):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    x, w, b = make(c_in, c_out, k, 131, groups, dtype)
    x, kwargs = layout(x), {"groups": groups, **kwargs}
    residual = reference.values(*F.conv1d(x, w, b, **kwargs).shape, dtype=dtype, seed=3)
    names = {"pre_activation": pre, "pre_slope": 0.2, "activation": post, "slope": 0.2}

    def composed(conv, x, w, b, residual=None):
        y = ACTIVATIONS[post](conv(ACTIVATIONS[pre](x), w, b, **kwargs))
        return y if residual is None else y + residual

    for args in ((x, w, b), (x, w, b, residual), (x, w, b, rows(residual))):
        got = compat_conv1d(*args[:3], **kwargs, **names, residual=args[3] if len(args) == 4 else None)
        reference.assert_as_accurate(got, composed(F.conv1d, *args), reference.in_float64(composed, F.conv1d, *args))
        assert got.stride() == layout(got).stride()
        if dtype == torch.float32:
            assert torch.equal(got, composed(compat_conv1d, *args))


@pytest.mark.parametrize("method", METHODS)
def test_residual_of_an_unbatched_input(method):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    x, w, b = make(c_in, c_out, k, 50, groups, batch=())
    y = compat_conv1d(x, w, b, groups=groups, **kwargs)
    assert torch.equal(compat_conv1d(x, w, b, groups=groups, **kwargs, residual=y), 2 * y)


def test_integers_go_to_torch():
    args = make(4, 6, 3, 20, 2, torch.int64)
    assert torch.equal(compat_conv1d(*args, groups=2), F.conv1d(*args, groups=2))


X, W, B = make(4, 6, 3, 10)
MESSAGES = [
    (RuntimeError, "groups must be >= 1 (non-positive groups is not supported), got 0", (X, W), {"groups": 0}),
    (RuntimeError, "weight should have at least three dimensions, got [6, 4]", (X, W[..., 0]), {}),
    (RuntimeError, "Expected 2D (unbatched) or 3D (batched) input to conv1d: ", (X[0, 0], W), {}),
    (RuntimeError, "input must be (C_in, L) or (N, C_in, L), got [1, 2, 4, 10]", (X[None], W), {}),
    (RuntimeError, "stride, padding and dilation must hold one value each, got (1, 1)", (X, W), {"stride": (1, 1)}),
    (RuntimeError, "stride must be >= 1 (non-positive stride is not supported), got 0", (X, W), {"stride": 0}),
    (RuntimeError, "padding must be >= 0 (negative padding is not supported), got -1", (X, W), {"padding": -1}),
    (RuntimeError, "dilation must be >= 1 (dilation should be greater than zero), got 0", (X, W), {"dilation": 0}),
    (RuntimeError, "Expected all tensors to be on the same device: weight is on meta", (X, W.to("meta")), {}),
    (RuntimeError, "Expected all tensors to be on the same device: bias is on meta", (X, W, B.to("meta")), {}),
    (RuntimeError, "Input type (Float) and weight type (Double) should be the same", (X, W.double()), {}),
    (RuntimeError, "Input type (Float) and bias type (Half) should be the same", (X, W, B.half()), {}),
    (RuntimeError, "expected weight to be at least 8 at dimension 0, but got weight of size [6", (X, W), {"groups": 8}),
    (RuntimeError, "expected weight to be at least 1 at dimension 0, but got weight of size [0", (X, W[:0]), {}),
    (RuntimeError, "expected weight to be divisible by 4 at dimension 0, but got", (X, W), {"groups": 4}),
    (RuntimeError, "input must have 8 channels (weight.size(1) * groups), got 4; input is", (X, W), {"groups": 2}),
    (RuntimeError, "bias must be (6,) (weight.size(0)), got [5]; weight is [6, 4, 3]", (X, W, B[:5]), {}),
    (RuntimeError, "bias must be (6,) (weight.size(0)), got [1, 6]", (X, W, B[None]), {}),
    (RuntimeError, "Kernel size can't be greater than actual input size. Calculated padded", (X[..., :2], W), {}),
    (RuntimeError, "padded input size per channel: (12). Kernel size: (13)", (X, W), {"padding": 1, "dilation": 6}),
    (RuntimeError, "Kernel size can't be greater than actual input size", (X, W[..., :0]), {}),
    (RuntimeError, "padding must be 'same', 'valid' or a number, got 'full'", (X, W), {"padding": "full"}),
    (RuntimeError, "stride must be 1, got [2]", (X, W), {"padding": "same", "stride": 2}),
    (RuntimeError, "weight should have at least three dimensions", (X, W[..., 0]), {"padding": "same"}),
    (NotImplementedError, "input must be real, got ComplexFloat; split it", (X + 0j, W + 0j), {}),
    (NotImplementedError, "weight must be real, got ComplexFloat; split it", (X, W + 0j), {}),
]
RESIDUAL_MESSAGES = [
    ("residual must have the size of the output, [2, 6, 8], got [2, 6, 1]", torch.zeros(2, 6, 1)),
    ("residual must have the size of the output, [2, 6, 8], got [2, 8, 6]", torch.zeros(2, 8, 6)),
    ("residual must have the size of the output, [2, 6, 8], got []", torch.tensor(1.0)),
    ("residual must have the same dtype as input", torch.zeros(2, 6, 8, dtype=torch.float64)),
    ("Expected all tensors to be on the same device: residual is on meta", torch.zeros(2, 6, 8, device="meta")),
]


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize(("error", "message", "args", "kwargs"), MESSAGES, ids=[m[1][:40] for m in MESSAGES])
def test_messages(error, message, args, kwargs, requires_grad):
    args = [a.clone().requires_grad_(requires_grad) for a in args]
    if error is RuntimeError and not any(a.is_meta for a in args):  # torch takes those
        with pytest.raises((RuntimeError, ValueError)):
            F.conv1d(*args, **kwargs)
    with pytest.raises(error, match=f"compat_conv1d: .*{re.escape(message)}"):
        compat_conv1d(*args, **kwargs)


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("message", "residual"), RESIDUAL_MESSAGES, ids=[m[0][-40:] for m in RESIDUAL_MESSAGES])
def test_messages_of_residual(message, residual, dtype, requires_grad):
    if "dtype" in message:
        residual = residual.to(torch.float32 if dtype == torch.float64 else torch.float64)
    else:
        residual = residual.to(dtype)
    w = W.to(dtype, copy=True).requires_grad_(requires_grad)
    for padding in (0, "valid"):
        with pytest.raises(RuntimeError, match=f"compat_conv1d: .*{re.escape(message)}"):
            compat_conv1d(X.to(dtype), w, padding=padding, residual=residual)
    if "device" not in message:
        with pytest.raises(RuntimeError, match=re.escape(message)):
            compat_conv1d(X.to("meta", dtype), W.to("meta", dtype), residual=residual.to("meta"))


def test_numbers_too_large_for_64_bits():
    for kwargs in ({"stride": 2**70}, {"padding": -(2**70)}, {"groups": 2**64, "slope": 1}):
        with pytest.raises((RuntimeError, OverflowError)):
            compat_conv1d(X, W, **kwargs)


@pytest.mark.parametrize("argument", ["pre_activation", "activation"])
@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("name", ["mish", "", "\ud800"], ids=ascii)
def test_unknown_activation(name, requires_grad, argument):
    expected = UnicodeEncodeError if name == "\ud800" else ValueError
    for device in ("cpu", "meta"):
        with pytest.raises((expected, RuntimeError) if name == "\ud800" else ValueError):
            compat_conv1d(X.to(device), W.to(device, copy=True).requires_grad_(requires_grad), **{argument: name})
    if name == "mish":
        with pytest.raises(ValueError, match=r"activation must be one of none, relu, .*, got 'mish'"):
            compat_conv1d(X, W, **{argument: name})


@settings(max_examples=60, deadline=None)
@given(data=st.data(), groups=st.integers(1, 5), dtype=st.sampled_from(DTYPES), k=st.integers(1, 12))
def test_any_size(data, groups, dtype, k):
    narrow = st.integers(1, 6) if groups > 1 else st.integers(1, 70)
    c_in, c_out = groups * data.draw(narrow), groups * data.draw(narrow)
    kwargs = {
        "stride": data.draw(st.sampled_from([1, 1, 1, 2, 3, 7])),
        "padding": data.draw(st.integers(0, 12)),
        "dilation": data.draw(st.integers(1, 6)),
        "groups": groups,
    }
    shortest = max(1, kwargs["dilation"] * (k - 1) + 1 - 2 * kwargs["padding"])
    length, batch = data.draw(st.integers(shortest, shortest + 260)), data.draw(st.sampled_from([(), (1,), (2,), (3,)]))
    x, w, b = make(c_in, c_out, k, length, groups, dtype, data.draw(st.booleans()), batch)
    magnitude = F.conv1d(*(None if a is None else a.double().abs() for a in (x, w, b)), **kwargs)
    want = reference.in_float64(F.conv1d, x, w, b, **kwargs)
    reference.assert_rounded(compat_conv1d(x, w, b, **kwargs), want, magnitude)
    if batch:
        reference.assert_rounded(compat_conv1d(rows(x), w, b, **kwargs), want, magnitude)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64], ids=str)
def test_opinfo_samples(dtype):
    opinfo.check_samples("nn.functional.conv1d", compat_conv1d, dtype)


def test_opinfo_errors():
    opinfo.check_errors("nn.functional.conv1d", compat_conv1d)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_opinfo_samples_that_are_complex_are_refused(dtype):
    for sample in opinfo.named("nn.functional.conv1d").sample_inputs("cpu", dtype):
        with pytest.raises(NotImplementedError, match="input must be real"):
            compat_conv1d(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_matches_float64_reference(method, layout, dtype):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    args = [a.requires_grad_() for a in make(c_in, c_out, k, 41, groups, dtype)]
    seed = reference.values(*F.conv1d(*args, groups=groups, **kwargs).shape, dtype=dtype, seed=3)

    def gradients(conv, args, seed):
        return torch.autograd.grad(conv(layout(args[0]), *args[1:], groups=groups, **kwargs), args, seed)

    wide = [a.detach().double().requires_grad_() for a in args]
    for grads in zip(
        gradients(compat_conv1d, args, seed),
        gradients(F.conv1d, args, seed),
        gradients(F.conv1d, wide, seed.double()),
        strict=True,
    ):
        reference.assert_as_accurate(*grads)


GRADIENTS = [
    {},
    {"stride": 2, "padding": 2, "dilation": 2},
    {"groups": 2, "padding": "same"},
    {"padding": "valid", "pre_activation": "tanh", "activation": "silu"},
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("kwargs", GRADIENTS, ids=str)
def test_gradients(kwargs, batch, residual):
    args = list(make(4, 2, 4, 9, kwargs.get("groups", 1), torch.float64, True, batch))
    if residual:
        args.append(reference.values(*compat_conv1d(*args, **kwargs).shape, dtype=torch.float64, seed=3))
    args = [a.requires_grad_() for a in args]

    def f(x, w, b, residual=None):
        return compat_conv1d(x, w, b, **kwargs, residual=residual)

    assert torch.autograd.gradcheck(f, args)
    assert torch.autograd.gradgradcheck(f, args, fast_mode=True)


@pytest.mark.parametrize("needed", range(4), ids=["input", "weight", "bias", "residual"])
def test_gradient_of_one_argument(needed):
    args = [*make(4, 5, 3, 10), reference.values(2, 5, 8, seed=3)]
    args[needed].requires_grad_()
    (got,) = torch.autograd.grad(compat_conv1d(*args[:3], residual=args[3]).sin().sum(), args[needed])
    (want,) = torch.autograd.grad((F.conv1d(*args[:3]) + args[3]).sin().sum(), args[needed])
    torch.testing.assert_close(got, want)


OPCHECKS = [
    {},
    {"stride": [2], "padding": [3], "dilation": [2], "activation": "relu"},
    {"groups": 2, "pre_activation": "leaky_relu", "activation": "gelu"},
]


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kwargs", OPCHECKS, ids=str)
def test_opcheck(kwargs, dtype, requires_grad):
    args = [a.requires_grad_(requires_grad) for a in make(6, 8, 3, 20, kwargs.get("groups", 1), dtype)]
    torch.library.opcheck(OP, args, kwargs)
    torch.library.opcheck(OP, (rows(args[0].detach()).requires_grad_(requires_grad), *args[1:]), kwargs)
    torch.library.opcheck(OP, (args[0][0].detach(), args[1], None), kwargs)
    residual = torch.ones_like(OP(*args, **kwargs), requires_grad=requires_grad)
    torch.library.opcheck(OP, args, {**kwargs, "residual": residual})


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_opcheck_named_padding(padding, requires_grad):
    args = [a.requires_grad_(requires_grad) for a in make(6, 8, 4, 20)]
    torch.library.opcheck(NAMED_PADDING, args, {"padding": padding, "dilation": [3]})


@pytest.mark.parametrize("mask", [(True, True, True), (True, False, False), (False, True, True)], ids=str)
@pytest.mark.parametrize("batch", [(), (2,)], ids=["unbatched", "batched"])
def test_opcheck_backward(batch, mask):
    x, w, b = make(4, 6, 3, 12, 2, batch=batch)
    grad = torch.ones_like(F.conv1d(x, w, b, 2, 1, 1, 2))
    torch.library.opcheck(BACKWARD, (grad, x, w, [2], [1], [1], 2, mask))


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_autocast(dtype, autocast_dtype):
    args = make(8, 4, 3, 30, dtype=dtype)
    with torch.autocast("cpu", dtype=autocast_dtype):
        got, peer, padded = compat_conv1d(*args), F.conv1d(*args), compat_conv1d(*args, padding="same")
        added = compat_conv1d(*args, residual=got)
    assert got.dtype == peer.dtype == padded.dtype == (dtype if dtype == torch.float64 else autocast_dtype)
    assert added.dtype == got.dtype
    reference.assert_as_accurate(got, peer, reference.in_float64(F.conv1d, *(a.to(got.dtype) for a in args)))


class Model(torch.nn.Module):
    """One layer of each way in: numbers, a name, a residual."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = (torch.nn.Parameter(a) for a in make(6, 6, 4, 1)[1:])

    def forward(self, x):
        y = compat_conv1d(x * 2, self.weight, self.bias, padding=3, dilation=2, activation="leaky_relu")
        z = compat_conv1d(y, self.weight, padding="same", pre_activation="leaky_relu", residual=y)
        return compat_conv1d(z, self.weight, self.bias, stride=2) + 1


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_with_dynamic_shapes(backend, layout):
    torch._dynamo.reset()
    model = Model()
    counts = torch._dynamo.testing.CompileCounterWithBackend(backend)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counts)
    first = 0
    for length in (50, 83):
        x, y = (layout(reference.values(2, 6, length)).requires_grad_() for _ in range(2))
        out, want = compiled(x), model(y)
        torch.testing.assert_close(out, want)
        assert out.stride() == want.stride()
        grads = (torch.autograd.grad(t.sum(), [leaf, *model.parameters()]) for t, leaf in ((out, x), (want, y)))
        torch.testing.assert_close(*grads)
        first = first or counts.frame_count  # torch may trace the first twice, to make slopes constants
    assert counts.frame_count == first


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_compiles_with_inductor():
    model = Model()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for length in (50, 83):
            x = reference.values(2, 6, length)
            torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_export():
    model, x = Model(), reference.values(2, 6, 40)
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {2: torch.export.Dim("length", min=16)}})
    longer = reference.values(2, 6, 77)
    torch.testing.assert_close(program.module()(longer), model(longer))
    lower = program.run_decompositions()
    assert [node.target for node in lower.graph.nodes].count(OP) == 3
    torch.testing.assert_close(lower.module()(longer), model(longer))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kwargs", [{}, {"padding": "same"}, {"stride": 2, "groups": 2, "padding": 1}], ids=str)
def test_function_transforms(kwargs):
    x, w, b = make(4, 6, 4, 20, kwargs.get("groups", 1), batch=(3, 2))
    weights, tangents = torch.stack([w, w.flip(0), -w]), tuple(t.flip(0) for t in (x[0], w, b))
    vmap, grad, jvp = torch.func.vmap, torch.func.grad, torch.func.jvp
    for transform in (
        lambda f: vmap(f, in_dims=(0, None, None))(x, w, b),
        lambda f: vmap(f, in_dims=(None, 0, None))(x[0], weights, b),
        lambda f: vmap(f, in_dims=(0, 0, None))(x, weights, b),
        lambda f: vmap(f, in_dims=(0, None, None))(x[0], w, b),
        lambda f: grad(lambda *args: f(*args).sin().sum(), argnums=(0, 1, 2))(x[0], w, b),
        lambda f: jvp(f, (x[0], w, b), tangents)[1],
        lambda f: vmap(grad(lambda w, x: f(x, w, b).sin().sum()), in_dims=(None, 0))(w, x),
        lambda f: torch.func.jacrev(f, argnums=2)(x[0], w, b),
    ):
        ours, theirs = (transform(lambda *a, f=f: f(*a, **kwargs)) for f in (compat_conv1d, F.conv1d))
        torch.testing.assert_close(ours, theirs)


def test_vmap_of_residual_and_activation():
    x, w, b = make(4, 6, 3, 20, batch=(3, 2))
    residual = reference.values(3, 2, 6, 18)

    def ours(x, residual):
        return compat_conv1d(x, w, b, activation="gelu", residual=residual)

    want = torch.stack([F.gelu(F.conv1d(one, w, b)) for one in x]) + residual
    torch.testing.assert_close(torch.func.vmap(ours)(x, residual), want)


def test_forward_mode():
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(W, W.flip(0))
        tangent = torch.autograd.forward_ad.unpack_dual(compat_conv1d(X, dual, B)).tangent
    torch.testing.assert_close(tangent, F.conv1d(X, W.flip(0)))


@pytest.mark.parametrize("padding", [1, "same"])
def test_modes_see_the_call(padding):
    functions, dispatched = [], []

    class FunctionMode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            functions.append(func)
            return func(*args, **(kwargs or {}))

    class DispatchMode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            dispatched.append(func)
            return func(*args, **(kwargs or {}))

    with FunctionMode():
        compat_conv1d(X, W, B, padding=padding)
    with DispatchMode():
        compat_conv1d(X, W, B, padding=padding)
    assert {torch.ops.blackwell_compat.compat_conv1d, OP, NAMED_PADDING} & set(functions)
    assert dispatched == [OP]


class Tagged(torch.Tensor):
    seen: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.parametrize("which", range(4), ids=["input", "weight", "bias", "residual"])
def test_subclass_sees_the_call(which, padding):
    args = [X, W, B, torch.ones(2, 6, 10)]
    args[which] = args[which].as_subclass(Tagged)
    Tagged.seen.clear()
    got = compat_conv1d(*args[:3], padding=padding, residual=args[3])
    assert {torch.ops.blackwell_compat.compat_conv1d, OP, NAMED_PADDING} & set(Tagged.seen)
    assert isinstance(got, Tagged)
    torch.testing.assert_close(got.as_subclass(torch.Tensor), F.conv1d(X, W, B, padding=1) + 1)


@pytest.mark.parametrize("where", ["pre_activation", "activation"])
@pytest.mark.parametrize("method", ["rows", "few", "depthwise", "grouped"])
def test_relu_of_minus_infinity_is_zero(method, where):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    x, w, b = make(c_in, c_out, k, 50, groups)
    if where == "activation":
        b[0] = -float("inf")
    else:
        x[:, 0, 7] = -float("inf")
    got = compat_conv1d(x, w, b, groups=groups, **kwargs, **{where: "relu"})
    want = F.conv1d(F.relu(x) if where == "pre_activation" else x, w, b, groups=groups, **kwargs)
    torch.testing.assert_close(got, F.relu(want) if where == "activation" else want)
