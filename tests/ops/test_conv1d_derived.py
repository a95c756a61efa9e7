"""What is derived from calls of compat_conv1d: gradients, compiled and exported programs, transformed functions."""

import functools

import composing
import pytest
import reference
import torch
from blackwell_compat import compat_conv1d
from conv1d_cases import METHODS, NAMED_PADDING, OP, B, W, X, make
from layer_cases import DTYPES, rows
from torch.nn import functional as F

BACKWARD = torch.ops.blackwell_compat.compat_conv1d_backward.default


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, rows], ids=["planes", "rows"])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_matches_float64_reference(method, layout, dtype):
    c_in, c_out, k, groups, kwargs = METHODS[method]
    x, w, b = make(c_in, c_out, k, 41, groups, dtype)
    reference.assert_gradients_as_accurate(compat_conv1d, F.conv1d, (layout(x), w, b), {"groups": groups, **kwargs})


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
    composing.assert_compiles_once(Model(), [layout(reference.values(2, 6, length)) for length in (50, 83)], backend)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_compiles_with_inductor():
    composing.assert_inductor_agrees(Model(), [reference.values(2, 6, length) for length in (50, 83)])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_export():
    _, lower = composing.exported(Model(), reference.values(2, 6, 40), reference.values(2, 6, 77), 2, least=16)
    assert [node.target for node in lower.graph.nodes].count(OP) == 3


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kwargs", [{}, {"padding": "same"}, {"stride": 2, "groups": 2, "padding": 1}], ids=str)
def test_function_transforms(kwargs):
    ours, theirs = (functools.partial(f, **kwargs) for f in (compat_conv1d, F.conv1d))
    args = make(4, 6, 4, 20, kwargs.get("groups", 1), batch=(3, 2))
    composing.assert_same_under_transforms(ours, theirs, *args)


def test_vmap_of_residual_and_activation():
    x, w, b = make(4, 6, 3, 20, batch=(3, 2))
    residual = reference.values(3, 2, 6, 18)

    def ours(x, residual):
        return compat_conv1d(x, w, b, activation="gelu", residual=residual)

    want = torch.stack([F.gelu(F.conv1d(one, w, b)) for one in x]) + residual
    torch.testing.assert_close(torch.func.vmap(ours)(x, residual), want)


def test_forward_mode():
    tangent = composing.tangent_of(lambda w: compat_conv1d(X, w, B), W, W.flip(0))
    torch.testing.assert_close(tangent, F.conv1d(X, W.flip(0)))


@pytest.mark.parametrize("padding", [1, "same"])
def test_modes_see_the_call(padding):
    functions, dispatched = composing.seen_by_modes(lambda: compat_conv1d(X, W, B, padding=padding))
    assert {torch.ops.blackwell_compat.compat_conv1d, OP, NAMED_PADDING} & set(functions)
    assert dispatched == [OP]


@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.parametrize("which", range(4), ids=["input", "weight", "bias", "residual"])
def test_subclass_sees_the_call(which, padding):
    def call(x, w, b, residual):
        return compat_conv1d(x, w, b, padding=padding, residual=residual)

    got, functions = composing.seen_by_subclass(call, (X, W, B, torch.ones(2, 6, 10)), which)
    assert {torch.ops.blackwell_compat.compat_conv1d, OP, NAMED_PADDING} & set(functions)
    torch.testing.assert_close(got, F.conv1d(X, W, B, padding=1) + 1)
