"""compat_conv1d against torch.nn.functional.conv1d."""

import re

import opinfo
import pytest
import reference
import torch
from blackwell_compat import compat_conv1d
from conv1d_cases import METHODS, B, W, X, make
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import ACTIVATIONS, DTYPES, STRIDED_SIGNALS, rows
from torch.nn import functional as F

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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("c_in", "c_out", "k", "groups"), [(6, 9, 3, 3), (34, 32, 3, 1), (6, 6, 4, 6), (8, 3, 4, 1)], ids=str
)
@pytest.mark.parametrize("view", STRIDED_SIGNALS)
def test_strided_arguments(view, c_in, c_out, k, groups, dtype):
    x, w, b = make(c_in, c_out, k, 75, groups, dtype)
    strided, kwargs = STRIDED_SIGNALS[view], {"padding": 1, "groups": groups}
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
