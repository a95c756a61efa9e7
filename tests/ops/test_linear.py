"""compat_linear against torch.nn.functional.linear."""

import re

import composing
import opinfo
import pytest
import reference
import torch
from blackwell_compat import compat_linear
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import ACTIVATIONS, DTYPES
from torch.nn import functional as F

OP = torch.ops.blackwell_compat.compat_linear.default
BACKWARD = torch.ops.blackwell_compat.compat_linear_backward.default
# Leading sizes, K, N. What the workload models ask for (rows and columns of the largest reduced)
MODELS = [
    ((12000,), 9, 1),  # Kokoro, Chatterbox: harmonic source
    ((1,), 1, 1024),
    ((1,), 1280, 8),
    ((1,), 32, 4),
    ((1,), 4, 32),
    ((1,), 128, 1028),  # Kokoro: AdaIN
    ((1,), 128, 2180),
    ((1, 80), 512, 50),  # Kokoro: durations
    ((2, 3), 1024, 1026),
    ((1,), 1024, 8194),
    ((5,), 1024, 5460),
    ((7,), 2730, 1024),
    ((1,), 96, 50257),  # heads of GPT-2 and Qwen
    ((1,), 64, 152064),
]
# Round the sizes that the kernels work in: 12 rows, 64 and 128 products, 16, 32 and 128 columns
AWKWARD = [
    ((), 16, 8),
    ((), 300, 1),
    ((1,), 1, 1),
    ((11,), 63, 15),
    ((12,), 64, 16),
    ((13,), 65, 17),
    ((2, 12), 127, 31),
    ((25,), 128, 32),
    ((3, 1, 9), 129, 33),
    ((1,), 257, 127),
    ((1,), 256, 129),
    ((257,), 100, 5),
    ((301,), 129, 97),
]
EMPTY = [((0,), 16, 8), ((2, 0), 3, 5), ((4,), 0, 3), ((4,), 3, 0)]


def make(rows, k, n, dtype=torch.float32, bias=True):
    x, w = reference.values(*rows, k, dtype=dtype), reference.values(n, k, dtype=dtype, seed=1)
    return x, w, reference.values(n, dtype=dtype, seed=2) if bias else None


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "k", "n"), MODELS + AWKWARD + EMPTY, ids=str)
def test_matches_float64_reference(rows, k, n, dtype, bias):
    args = make(rows, k, n, dtype, bias)
    got = compat_linear(*args)
    reference.assert_as_accurate(got, F.linear(*args), reference.in_float64(F.linear, *args))
    assert got.is_contiguous()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.integers(0, 9), max_size=3),
    k=st.integers(1, 300),
    n=st.integers(1, 140),
    dtype=st.sampled_from(DTYPES),
    bias=st.booleans(),
)
def test_any_size(rows, k, n, dtype, bias):
    args = make(rows, k, n, dtype, bias)
    magnitude = F.linear(*(None if a is None else a.double().abs() for a in args))
    reference.assert_rounded(compat_linear(*args), reference.in_float64(F.linear, *args), magnitude)


STRIDED = {
    "rows apart": lambda x: torch.cat([x, x], -1)[..., : x.size(-1)],
    "every other column": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other row": lambda x: x.repeat_interleave(2, 0)[::2],
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("view", STRIDED)
def test_strided_arguments(view, dtype):
    x, w, b = make((7, 3), 65, 34, dtype)
    want = compat_linear(x, w, b)
    strided = STRIDED[view]
    for args in ((strided(x), w, b), (x, strided(w), b), (strided(x), strided(w), strided(b[:, None])[:, 0])):
        assert all(torch.equal(a, plain) for a, plain in zip(args, (x, w, b), strict=True))
        reference.assert_as_accurate(compat_linear(*args), want, reference.in_float64(F.linear, *args))


def test_expanded_input_and_weight():
    x, w, b = make((1,), 40, 33)
    assert torch.equal(compat_linear(x.expand(6, 40), w, b), compat_linear(x.repeat(6, 1), w, b))
    torch.testing.assert_close(compat_linear(x, w[:1].expand(5, 40), b[:5]), F.linear(x, w[:1].expand(5, 40), b[:5]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weight_and_bias_of_other_ranks(dtype):
    x, w, _ = make((3, 4), 20, 5, dtype)
    vector = w[0]
    reference.assert_as_accurate(compat_linear(x, vector), F.linear(x, vector), x.double() @ vector.double())
    for bias in (torch.tensor(0.5, dtype=dtype), torch.full((1,), 0.5, dtype=dtype)):
        want = reference.in_float64(F.linear, x, w, bias)
        reference.assert_as_accurate(compat_linear(x, w, bias), F.linear(x, w, bias.expand(5)), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("post", ACTIVATIONS)
@pytest.mark.parametrize("pre", ACTIVATIONS)
def test_activations(pre, post, dtype):
    args = make((2, 13), 70, 37, dtype)
    names = {"pre_activation": pre, "pre_slope": 0.2, "activation": post, "slope": 0.2}

    def composed(linear, x, w, b):
        return ACTIVATIONS[post](linear(ACTIVATIONS[pre](x), w, b))

    got = compat_linear(*args, **names)
    reference.assert_as_accurate(got, composed(F.linear, *args), reference.in_float64(composed, F.linear, *args))
    if dtype == torch.float32:
        assert torch.equal(got, composed(compat_linear, *args))


def test_integers_go_to_torch():
    args = make((4,), 5, 3, torch.int64)
    assert torch.equal(compat_linear(*args), F.linear(*args))


X, W, B = make((2, 3), 4, 5)
MESSAGES = [
    (RuntimeError, "input must be (*, K), got a 0-D tensor", (X[0, 0, 0], W)),
    (RuntimeError, "weight must be 2-D (N, K) or 1-D (K,), got [1, 5, 4]", (X, W[None])),
    (RuntimeError, "weight.size(-1) must be 4 (input.size(-1)), got 3; ", (X, W[:, :3])),
    (RuntimeError, "mat1 and mat2 shapes cannot be multiplied: input is [2, 3, 4], weight is [5, 3]", (X, W[:, :3])),
    (RuntimeError, "weight must have the same dtype as input (expected scalar type Float but found", (X, W.double())),
    (RuntimeError, "bias must have the same dtype as input (expected scalar type Float but found", (X, W, B.half())),
    (RuntimeError, "Expected all tensors to be on the same device: weight is on meta", (X, W.to("meta"))),
    (RuntimeError, "Expected all tensors to be on the same device: bias is on meta", (X, W, B.to("meta"))),
    (RuntimeError, "bias must be 1-D (N,), got [1, 5]", (X, W, B[None])),
    (RuntimeError, "bias.size(0) must be 5 (weight.size(0)), got 4; weight is [5, 4]", (X, W, B[:4])),
    (NotImplementedError, "input must be real, got ComplexFloat; split it", (X + 0j, W + 0j)),
    (NotImplementedError, "weight must be real, got ComplexFloat; split it", (X, W + 0j)),
]


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize(("error", "message", "args"), MESSAGES, ids=[m[1][:40] for m in MESSAGES])
def test_messages(error, message, args, requires_grad):
    args = [a.clone().requires_grad_(requires_grad) for a in args]
    with pytest.raises(error, match=f"compat_linear: .*{re.escape(message)}"):
        compat_linear(*args)


@pytest.mark.parametrize("argument", ["pre_activation", "activation"])
@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
def test_unknown_activation(requires_grad, argument):
    for device in ("cpu", "meta"):
        with pytest.raises(ValueError, match=r"activation must be one of none, relu, .*, got 'mish'"):
            compat_linear(X.to(device), W.to(device, copy=True).requires_grad_(requires_grad), **{argument: "mish"})


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64], ids=str)
def test_opinfo_samples(dtype):
    opinfo.check_samples("nn.functional.linear", compat_linear, dtype)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_opinfo_samples_that_are_complex_are_refused(dtype):
    for sample in opinfo.named("nn.functional.linear").sample_inputs("cpu", dtype):
        with pytest.raises(NotImplementedError, match="input must be real"):
            compat_linear(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [(9,), (2, 5), (), (0,)], ids=str)
def test_gradient_matches_float64_reference(rows, dtype):
    reference.assert_gradients_as_accurate(compat_linear, F.linear, make(rows, 33, 18, dtype))


@pytest.mark.parametrize("bias_size", [None, (), (1,), (3,)], ids=str)
@pytest.mark.parametrize("rows", [(4,), (2, 2), ()], ids=str)
def test_gradients(rows, bias_size):
    x, w, _ = make(rows, 5, 3, torch.float64)
    args = [x, w] + ([] if bias_size is None else [torch.full(bias_size, 0.5, dtype=torch.float64)])
    args = [a.requires_grad_() for a in args]

    def f(*args):
        return compat_linear(*args, pre_activation="tanh", activation="silu")

    assert torch.autograd.gradcheck(f, args)
    assert torch.autograd.gradgradcheck(f, args, fast_mode=True)


@pytest.mark.parametrize("rows", [(4,), (2, 2), (), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize(("k", "n"), [(0, 3), (5, 0), (0, 0), (5, 3)], ids=str)
def test_gradients_without_elements(k, n, rows):
    ours, theirs = ([a.requires_grad_() for a in make(rows, k, n)] for _ in range(2))
    compat_linear(*ours).sum().backward()
    F.linear(*theirs).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("needed", [0, 1, 2], ids=["input", "weight", "bias"])
def test_gradient_of_one_argument(needed):
    args = list(make((4,), 5, 3))
    args[needed].requires_grad_()
    (got,) = torch.autograd.grad(compat_linear(*args).sum(), args[needed])
    torch.testing.assert_close(got, torch.autograd.grad(F.linear(*args).sum(), args[needed])[0])


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize(
    "kwargs", [{}, {"activation": "relu"}, {"pre_activation": "leaky_relu", "activation": "gelu"}], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
def test_opcheck(bias, dtype, kwargs, requires_grad):
    args = [a if a is None else a.requires_grad_(requires_grad) for a in make((2, 3), 6, 5, dtype, bias)]
    torch.library.opcheck(OP, args, kwargs)
    torch.library.opcheck(OP, (args[0][0, 0].detach(), *args[1:]), kwargs)


@pytest.mark.parametrize("mask", [(True, True, True), (True, False, False), (False, True, True)], ids=str)
def test_opcheck_backward(mask):
    x, w, _ = make((2, 3), 6, 5)
    torch.library.opcheck(BACKWARD, (reference.values(2, 3, 5), x, w, mask))


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_autocast(dtype, autocast_dtype):
    args = make((3,), 8, 4, dtype)
    with torch.autocast("cpu", dtype=autocast_dtype):
        got, peer = compat_linear(*args), F.linear(*args)
        assert got.dtype == peer.dtype == (dtype if dtype == torch.float64 else autocast_dtype)
    reference.assert_as_accurate(got, peer, reference.in_float64(F.linear, *(a.to(got.dtype) for a in args)))


def test_autocast_backward():
    x, w, b = (a.requires_grad_() for a in make((3,), 8, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = compat_linear(x, w, b)
    y.sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in (x, w, b))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = (torch.nn.Parameter(a) for a in make((), 24, 40)[1:])

    def forward(self, x):
        return compat_linear(x * 2, self.weight, self.bias, activation="gelu") + 1


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_with_dynamic_shapes(backend):
    composing.assert_compiles_once(Model(), [reference.values(2, rows, 24) for rows in (7, 30)], backend)


def test_compiles_with_inductor():
    composing.assert_inductor_agrees(Model(), [reference.values(rows, 24) for rows in (7, 30)])


def test_export():
    program, _ = composing.exported(Model(), reference.values(2, 9, 24), reference.values(2, 31, 24), 1)
    assert any(node.target is OP for node in program.graph.nodes)


def test_function_transforms():
    composing.assert_same_under_transforms(compat_linear, F.linear, *make((3, 6), 8, 5))


def test_forward_mode():
    x, w, b = make((6,), 8, 5)
    tangent = composing.tangent_of(lambda w: compat_linear(x, w, b), w, w.flip(0))
    torch.testing.assert_close(tangent, F.linear(x, w.flip(0)))


def test_modes_see_the_call():
    functions, dispatched = composing.seen_by_modes(lambda: compat_linear(X, W, B))
    assert {torch.ops.blackwell_compat.compat_linear, OP} & set(functions)
    assert dispatched == [OP]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["input", "weight", "bias"])
def test_subclass_sees_the_call(which):
    got, functions = composing.seen_by_subclass(compat_linear, (X, W, B), which)
    assert {torch.ops.blackwell_compat.compat_linear, OP} & set(functions)
    torch.testing.assert_close(got, F.linear(X, W, B))


def test_relu_of_minus_infinity_is_zero():
    w = torch.tensor([[-float("inf")], [1.0], [float("nan")]])
    for x in (torch.ones(1, 1), torch.ones(40, 1)):
        assert torch.equal(compat_linear(x, w, activation="relu")[:, :2], F.relu(F.linear(x, w))[:, :2])
        assert compat_linear(x, w, activation="relu")[:, 2].isnan().all()
