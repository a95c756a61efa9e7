"""compat_conv_transpose1d against torch.nn.functional.conv_transpose1d."""

import functools
import re

import composing
import opinfo
import pytest
import reference
import torch
from blackwell_compat import compat_conv_transpose1d
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import ACTIVATIONS, DTYPES, STRIDED_SIGNALS, rows
from torch.nn import functional as F

OP = torch.ops.blackwell_compat.compat_conv_transpose1d.default
BACKWARD = torch.ops.blackwell_compat.compat_conv_transpose1d_backward.default
# C_in, C_out, K, L, the rest. What the workload models ask for, long signals and wide layers reduced
MODELS = [
    (70, 70, 3, 40, {"stride": 2, "padding": 1, "output_padding": 1, "groups": 70}),  # Kokoro, depthwise
    (256, 128, 11, 60, {"stride": 5, "padding": 3}),  # Chatterbox: the stride does not divide the kernel
    (128, 64, 7, 301, {"stride": 3, "padding": 2}),
    (256, 128, 16, 75, {"stride": 8, "padding": 4}),  # HiFi-GAN
    (64, 32, 8, 600, {"stride": 4, "padding": 2}),
    (128, 64, 4, 500, {"stride": 2, "padding": 1}),
    (512, 256, 20, 30, {"stride": 10, "padding": 5}),  # Kokoro
    (256, 128, 12, 203, {"stride": 6, "padding": 3}),
]
AWKWARD = [
    (1, 1, 1, 1, {}),
    (3, 5, 1, 1, {"stride": 4, "output_padding": 3}),
    (3, 5, 3, 1, {"stride": 3}),
    (1, 1, 10, 129, {"stride": 5}),
    (20, 1, 9, 151, {"stride": 4, "padding": 5}),
    (5, 7, 2, 33, {"stride": 5, "output_padding": 4}),  # the stride is longer than the kernel
    (5, 7, 3, 33, {"stride": 3, "padding": 17}),  # whole positions are cut off
    (33, 31, 5, 64, {}),  # stride 1
    (32, 32, 9, 97, {"padding": 4}),
    (40, 32, 9, 77, {"stride": 3, "padding": 1, "output_padding": 2}),
    (40, 16, 13, 41, {"stride": 2, "padding": 12, "output_padding": 1}),
    (6, 8, 3, 30, {"groups": 2, "stride": 2, "padding": 1}),
    (6, 12, 4, 30, {"groups": 6, "stride": 2}),
    (8, 6, 3, 30, {"dilation": 3, "padding": 2}),
    (8, 6, 3, 30, {"dilation": 4, "stride": 3, "output_padding": 3}),
    (8, 6, 3, 30, {"dilation": 2, "groups": 2, "stride": 2, "output_padding": 1}),
]


def make(c_in, c_out, k, length, groups=1, dtype=torch.float32, bias=True, batch=(2,)):
    x = reference.values(*batch, c_in, length, dtype=dtype)
    w = reference.values(c_in, c_out // groups, k, dtype=dtype, seed=1)
    return x, w, reference.values(c_out, dtype=dtype, seed=2) if bias else None


def check(args, kwargs):
    got, peer = (f(*args, **kwargs) for f in (compat_conv_transpose1d, F.conv_transpose1d))
    reference.assert_as_accurate(got, peer, reference.in_float64(F.conv_transpose1d, *args, **kwargs))
    return got


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("c_in", "c_out", "k", "length", "kwargs"), MODELS + AWKWARD, ids=str)
def test_matches_float64_reference(c_in, c_out, k, length, kwargs, dtype, bias):
    args = make(c_in, c_out, k, length, kwargs.get("groups", 1), dtype, bias)
    assert check(args, kwargs).is_contiguous()
    if min(c_in, length) > 1:
        got = check((rows(args[0]), *args[1:]), kwargs)
        assert min(got.shape[1:]) == 1 or got.stride() == (got[0].numel(), 1, got.size(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [(), (0,), (1,), (5,)], ids=["unbatched", "empty", "one", "five"])
@pytest.mark.parametrize(("c_in", "c_out", "k"), [(3, 6, 5), (40, 33, 6), (40, 1, 3)], ids=str)
def test_batch_sizes(c_in, c_out, k, batch, dtype):
    check(make(c_in, c_out, k, 70, dtype=dtype, batch=batch), {"padding": 1, "stride": 2, "output_padding": 1})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kwargs", [{}, {"groups": 2}, {"dilation": 2}, {"dilation": 2, "output_padding": 1}], ids=str)
def test_halves_are_rounded_once(kwargs, dtype):
    """Not after each tap, as ATen rounds float16, and bfloat16 where there is output_padding."""
    args = make(8, 8, 6, 132, kwargs.get("groups", 1), dtype)
    want = reference.in_float64(F.conv_transpose1d, *args, **kwargs)
    error = (compat_conv_transpose1d(*args, **kwargs).double() - want).abs().max().item()
    assert error <= 0.51 * torch.finfo(dtype).eps * want.abs().max().item()


def test_arguments_as_sequences():
    args = make(4, 6, 3, 50, 2)
    want = compat_conv_transpose1d(*args, 2, 1, 1, 2, 3)
    assert torch.equal(compat_conv_transpose1d(*args, (2,), [1], (1,), 2, [3]), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("c_in", "c_out", "k", "groups"), [(6, 9, 5, 1), (34, 32, 9, 1), (6, 6, 4, 6)], ids=str)
@pytest.mark.parametrize("view", STRIDED_SIGNALS)
def test_strided_arguments(view, c_in, c_out, k, groups, dtype):
    x, w, b = make(c_in, c_out, k, 75, groups, dtype)
    strided, kwargs = STRIDED_SIGNALS[view], {"padding": 1, "stride": 3, "groups": groups}
    for args in ((strided(x), w, b), (x, strided(w), b), (strided(x), strided(w), b.repeat_interleave(2)[::2])):
        got = check(args, kwargs)
        assert got.is_contiguous() or (view == "channels last" and args[0] is not x)


def test_expanded_arguments():
    x, w, b = make(4, 36, 3, 60)
    check((x[:1].expand(3, 4, 60), w, b), {"stride": 2})
    check((x[..., :1].expand(2, 4, 60), w, b), {"stride": 2})
    check((x, w[:, :1].expand(4, 36, 3), b[:1].expand(36)), {"stride": 2})


METHODS = {
    "rows": (12, 9, 5, 1, {"stride": 2, "padding": 1}),
    "minimal": (36, 17, 8, 1, {"stride": 2, "padding": 3, "output_padding": 1}),
    "few": (24, 1, 5, 1, {"stride": 3}),
    "depthwise": (10, 10, 3, 10, {"stride": 2, "padding": 1, "output_padding": 1}),
    "dilated": (12, 20, 3, 4, {"padding": 2, "dilation": 2}),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("pre", "post"), [(n, "none") for n in ACTIVATIONS] + [("leaky_relu", n) for n in ACTIVATIONS])
def test_activations(pre, post, method, layout, dtype):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    x, w, b = make(c_in, c_out, k, 91, groups, dtype)
    args, kwargs = (layout(x), w, b), {"groups": groups, **kwargs}
    names = {"pre_activation": pre, "pre_slope": 0.2, "activation": post, "slope": 0.2}

    def composed(conv, x, w, b):
        return ACTIVATIONS[post](conv(ACTIVATIONS[pre](x), w, b, **kwargs))

    got = compat_conv_transpose1d(*args, **kwargs, **names)
    want = reference.in_float64(composed, F.conv_transpose1d, *args)
    reference.assert_as_accurate(got, composed(F.conv_transpose1d, *args), want)
    assert got.stride() == layout(got).stride() or got.size(1) == 1
    if dtype == torch.float32 and groups == 1:  # not where torch computes, whose activations round by layout
        assert torch.equal(got, composed(compat_conv_transpose1d, *args))


def test_integers_go_to_torch():
    args = make(4, 6, 3, 20, 2, torch.int64)
    kwargs = {"groups": 2, "stride": 2}
    assert torch.equal(compat_conv_transpose1d(*args, **kwargs), F.conv_transpose1d(*args, **kwargs))


X, W, B = make(4, 6, 3, 10)
MESSAGES = [
    (RuntimeError, "groups must be >= 1 (non-positive groups is not supported), got 0", (X, W), {"groups": 0}),
    (RuntimeError, "weight should have at least three dimensions, got [4, 6]", (X, W[..., 0]), {}),
    (RuntimeError, "Expected 2D (unbatched) or 3D (batched) input to conv_transpose1d: ", (X[0, 0], W), {}),
    (RuntimeError, "input must be (C_in, L) or (N, C_in, L), got [1, 2, 4, 10]", (X[None], W), {}),
    (RuntimeError, "stride must be >= 1 (non-positive stride is not supported), got 0", (X, W), {"stride": 0}),
    (RuntimeError, "padding must be >= 0 (negative padding is not supported), got -1", (X, W), {"padding": -1}),
    (RuntimeError, "output_padding must be >= 0 (negative output_padding", (X, W), {"output_padding": -1}),
    (RuntimeError, "dilation must be >= 1 (dilation should be greater than zero), got 0", (X, W), {"dilation": 0}),
    (RuntimeError, "output padding must be smaller than either stride or dilation", (X, W), {"output_padding": 1}),
    (RuntimeError, "output_padding 3, stride 3, dilation 2", (X, W), {"output_padding": 3, "stride": 3, "dilation": 2}),
    (RuntimeError, "Expected all tensors to be on the same device: weight is on meta", (X, W.to("meta")), {}),
    (RuntimeError, "Expected all tensors to be on the same device: bias is on meta", (X, W, B.to("meta")), {}),
    (RuntimeError, "Input type (Float) and weight type (Double) should be the same", (X, W.double()), {}),
    (RuntimeError, "Input type (Float) and bias type (Half) should be the same", (X, W, B.half()), {}),
    (RuntimeError, "expected weight to be at least 8 and divisible by it at dimension 0", (X, W), {"groups": 8}),
    (RuntimeError, "expected weight to be at least 3 and divisible by it at dimension 0", (X, W), {"groups": 3}),
    (RuntimeError, "input must have 3 channels (weight.size(0)), got 4; input is [2, 4, 10]", (X, W[:3]), {}),
    (RuntimeError, "bias must be (6,) (weight.size(1) * groups), got [5]; weight is [4, 6, 3]", (X, W, B[:5]), {}),
    (RuntimeError, "bias must be (12,) (weight.size(1) * groups), got [6]", (X, W, B), {"groups": 2}),
    (RuntimeError, "the output would have length 0 (Output size is too small)", (X, W), {"padding": 6}),
    (RuntimeError, "the output would have length", (X, W[..., :0]), {}),
    (NotImplementedError, "input must be real, got ComplexFloat; split it", (X + 0j, W + 0j), {}),
    (NotImplementedError, "weight must be real, got ComplexFloat; split it", (X, W + 0j), {}),
]


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize(("error", "message", "args", "kwargs"), MESSAGES, ids=[m[1][:40] for m in MESSAGES])
def test_messages(error, message, args, kwargs, requires_grad):
    args = [a.clone().requires_grad_(requires_grad) for a in args]
    with pytest.raises(error, match=f"compat_conv_transpose1d: .*{re.escape(message)}"):
        compat_conv_transpose1d(*args, **kwargs)


@pytest.mark.parametrize("name", ["stride", "padding", "output_padding", "dilation"])
def test_two_values_are_refused(name):
    message = (
        f"compat_conv_transpose1d: stride, padding, output_padding and dilation must hold one value each, got {(2, 2)}"
    )
    with pytest.raises(RuntimeError, match=re.escape(message)):
        compat_conv_transpose1d(X, W, **{name: (2, 2)})
    lists = {"stride": [1], "padding": [0], "output_padding": [0], "dilation": [1], name: [2, 2]}
    with pytest.raises(RuntimeError, match=r"compat_conv_transpose1d: .*must hold one value each, got"):
        OP(X, W, **lists)


@pytest.mark.parametrize("argument", ["pre_activation", "activation"])
@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
def test_unknown_activation(requires_grad, argument):
    for device in ("cpu", "meta"):
        with pytest.raises(ValueError, match=r"activation must be one of none, relu, .*, got 'mish'"):
            compat_conv_transpose1d(
                X.to(device), W.to(device, copy=True).requires_grad_(requires_grad), **{argument: "mish"}
            )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), groups=st.sampled_from([1, 1, 1, 2, 3]), dtype=st.sampled_from(DTYPES), k=st.integers(1, 14))
def test_any_size(data, groups, dtype, k):
    wide = st.integers(1, 6) if groups > 1 else st.integers(1, 50)
    c_in, c_out = groups * data.draw(wide), groups * data.draw(wide)
    stride, dilation = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 1, 1, 2, 3]))
    kwargs = {
        "stride": stride,
        "padding": data.draw(st.integers(0, 12)),
        "output_padding": data.draw(st.integers(0, max(stride, dilation) - 1)),
        "dilation": dilation,
        "groups": groups,
    }
    cut = 2 * kwargs["padding"] - dilation * (k - 1) - kwargs["output_padding"]
    shortest = max(1, (cut + stride - 1) // stride + 1)
    length, batch = data.draw(st.integers(shortest, shortest + 150)), data.draw(st.sampled_from([(), (1,), (2,), (3,)]))
    x, w, b = make(c_in, c_out, k, length, groups, dtype, data.draw(st.booleans()), batch)
    magnitude = F.conv_transpose1d(*(None if a is None else a.double().abs() for a in (x, w, b)), **kwargs)
    want = reference.in_float64(F.conv_transpose1d, x, w, b, **kwargs)
    reference.assert_rounded(compat_conv_transpose1d(x, w, b, **kwargs), want, magnitude)
    if batch:
        reference.assert_rounded(compat_conv_transpose1d(rows(x), w, b, **kwargs), want, magnitude)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64], ids=str)
def test_opinfo_samples(dtype):
    opinfo.check_samples("nn.functional.conv_transpose1d", compat_conv_transpose1d, dtype)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_opinfo_samples_that_are_complex_are_refused(dtype):
    for sample in opinfo.named("nn.functional.conv_transpose1d").sample_inputs("cpu", dtype):
        with pytest.raises(NotImplementedError, match="input must be real"):
            compat_conv_transpose1d(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_matches_float64_reference(method, layout, dtype):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    x, w, b = make(c_in, c_out, k, 41, groups, dtype)
    kwargs = {"groups": groups, **kwargs}
    reference.assert_gradients_as_accurate(compat_conv_transpose1d, F.conv_transpose1d, (layout(x), w, b), kwargs)


GRADIENTS = [
    {},
    {"stride": 3, "padding": 2, "output_padding": 1},
    {"groups": 2, "stride": 2, "dilation": 3, "output_padding": 2},
    {"stride": 2, "pre_activation": "tanh", "activation": "silu"},
]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("kwargs", GRADIENTS, ids=str)
def test_gradients(kwargs, batch, bias):
    args = make(4, 2, 4, 5, kwargs.get("groups", 1), torch.float64, bias, batch)
    args = [a.requires_grad_() for a in args if a is not None]

    def f(*args):
        return compat_conv_transpose1d(*args, **kwargs)

    assert torch.autograd.gradcheck(f, args)
    assert torch.autograd.gradgradcheck(f, args, fast_mode=True)


@pytest.mark.parametrize("needed", range(3), ids=["input", "weight", "bias"])
def test_gradient_of_one_argument(needed):
    args = list(make(4, 5, 3, 10))
    args[needed].requires_grad_()
    (got,) = torch.autograd.grad(compat_conv_transpose1d(*args, 2).sin().sum(), args[needed])
    torch.testing.assert_close(got, torch.autograd.grad(F.conv_transpose1d(*args, 2).sin().sum(), args[needed])[0])


OPCHECKS = [
    {},
    {"stride": [3], "padding": [2], "output_padding": [1], "activation": "relu"},
    {"groups": 2, "stride": [2], "pre_activation": "leaky_relu", "activation": "gelu"},
    {"dilation": [2]},
]


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kwargs", OPCHECKS, ids=str)
def test_opcheck(kwargs, dtype, requires_grad):
    args = [a.requires_grad_(requires_grad) for a in make(6, 8, 5, 20, kwargs.get("groups", 1), dtype)]
    torch.library.opcheck(OP, args, kwargs)
    torch.library.opcheck(OP, (rows(args[0].detach()).requires_grad_(requires_grad), *args[1:]), kwargs)
    torch.library.opcheck(OP, (args[0][0].detach(), args[1], None), kwargs)


@pytest.mark.parametrize("mask", [(True, True, True), (True, False, False), (False, True, True)], ids=str)
@pytest.mark.parametrize("batch", [(), (2,)], ids=["unbatched", "batched"])
def test_opcheck_backward(batch, mask):
    x, w, b = make(4, 6, 3, 12, 2, batch=batch)
    grad = torch.ones_like(F.conv_transpose1d(x, w, b, 2, 1, 1, 2))
    torch.library.opcheck(BACKWARD, (grad, x, w, [2], [1], [1], 2, [1], mask))


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_autocast(dtype, autocast_dtype):
    args = make(8, 4, 3, 30, dtype=dtype)
    with torch.autocast("cpu", dtype=autocast_dtype):
        got, peer = compat_conv_transpose1d(*args, 2), F.conv_transpose1d(*args, 2)
    assert got.dtype == peer.dtype == (dtype if dtype == torch.float64 else autocast_dtype)
    want = reference.in_float64(F.conv_transpose1d, *(a.to(got.dtype) for a in args), 2)
    reference.assert_as_accurate(got, peer, want)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = (torch.nn.Parameter(a) for a in make(6, 6, 5, 1)[1:])

    def forward(self, x):
        y = compat_conv_transpose1d(x * 2, self.weight, self.bias, 3, padding=1, output_padding=2, activation="silu")
        return compat_conv_transpose1d(y, self.weight, self.bias, dilation=2, pre_activation="leaky_relu") + 1


@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_with_dynamic_shapes(backend, layout):
    composing.assert_compiles_once(Model(), [layout(reference.values(2, 6, length)) for length in (50, 83)], backend)


def test_compiles_with_inductor():
    composing.assert_inductor_agrees(Model(), [reference.values(2, 6, length) for length in (50, 83)])


def test_export():
    program, _ = composing.exported(Model(), reference.values(2, 6, 40), reference.values(2, 6, 77), 2, least=3)
    assert [node.target for node in program.graph.nodes].count(OP) == 2


@pytest.mark.parametrize("kwargs", [{}, {"stride": 3, "padding": 1}, {"stride": 2, "groups": 2}], ids=str)
def test_function_transforms(kwargs):
    ours, theirs = (functools.partial(f, **kwargs) for f in (compat_conv_transpose1d, F.conv_transpose1d))
    args = make(4, 6, 4, 20, kwargs.get("groups", 1), batch=(3, 2))
    composing.assert_same_under_transforms(ours, theirs, *args)


def test_forward_mode():
    tangent = composing.tangent_of(lambda w: compat_conv_transpose1d(X, w, B, 2), W, W.flip(0))
    torch.testing.assert_close(tangent, F.conv_transpose1d(X, W.flip(0), None, 2))


def test_modes_see_the_call():
    functions, dispatched = composing.seen_by_modes(lambda: compat_conv_transpose1d(X, W, B))
    assert {torch.ops.blackwell_compat.compat_conv_transpose1d, OP} & set(functions)
    assert dispatched == [OP]


@pytest.mark.parametrize("which", range(3), ids=["input", "weight", "bias"])
def test_subclass_sees_the_call(which):
    got, functions = composing.seen_by_subclass(compat_conv_transpose1d, (X, W, B), which)
    assert {torch.ops.blackwell_compat.compat_conv_transpose1d, OP} & set(functions)
    torch.testing.assert_close(got, F.conv_transpose1d(X, W, B))
