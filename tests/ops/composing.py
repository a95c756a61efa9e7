"""What the ops' tests ask under PyTorch's other tools: compilers, transforms of functions, modes, subclasses."""

import copy

import reference
import torch
import torch._dynamo.testing


def assert_compiles_once(model, inputs, backend="eager"):
    """Compiled for any size, `model` gives the values, strides and gradients it gives without, and is compiled once."""
    torch._dynamo.reset()
    counts = torch._dynamo.testing.CompileCounterWithBackend(backend)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counts)
    exact, first = copy.deepcopy(model).double(), 0
    for values in inputs:
        x, y, z = (t.clone().requires_grad_() for t in (values, values, reference.widened(values)))
        out, want = compiled(x), model(y)
        torch.testing.assert_close(out, want)
        assert out.stride() == want.stride()

        def gradients(y, x, model):
            return torch.autograd.grad((torch.view_as_real(y) if y.is_complex() else y).sum(), [x, *model.parameters()])

        # Sums of hundreds of values that cancel each other, in an order that the compiler may change
        runs = gradients(out, x, model), gradients(want, y, model), gradients(exact(z), z, exact)
        for grads in zip(*runs, strict=True):
            reference.assert_as_accurate(*grads)
        first = first or counts.frame_count  # torch may trace the first twice, to make slopes constants
    assert counts.frame_count == first


def assert_inductor_agrees(model, inputs):
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(compiled(x), model(x))


def exported(model, x, longer, dim, least=2):
    """`model`, exported for any size of that dimension from `least` on, and decomposed; both give what it gives."""
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {dim: torch.export.Dim("size", min=least)}})
    lower = program.run_decompositions()
    for made in (program, lower):
        torch.testing.assert_close(made.module()(longer), model(longer))
    return program, lower


def assert_same_under_transforms(ours, theirs, x, w, b):
    """f(x, w, b) for three inputs x, transformed by torch.func."""
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
        lambda f: torch.func.hessian(lambda b: f(x[0], w, b).sin().sum())(b),
    ):
        torch.testing.assert_close(transform(ours), transform(theirs))


def assert_same_under_transforms_of_one(ours, theirs, x):
    """f(x) of a batch x, transformed by torch.func."""
    torch.testing.assert_close(torch.func.vmap(ours)(x), theirs(x))
    for transform in (
        lambda f: torch.func.grad(lambda x: f(x).abs().square().sum())(x),
        lambda f: torch.func.jvp(f, (x,), (x.flip(0),))[1],
        lambda f: torch.func.vmap(torch.func.grad(lambda x: f(x).abs().square().sum()))(x),
    ):
        torch.testing.assert_close(transform(ours), transform(theirs))


def tangent_of(f, x, tangent):
    """By forward-mode differentiation."""
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.unpack_dual(f(torch.autograd.forward_ad.make_dual(x, tangent))).tangent


def seen_by_modes(call):
    """The functions that a function mode, and those that a dispatch mode sees."""
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
        call()
    with DispatchMode():
        call()
    return functions, dispatched


class Tagged(torch.Tensor):
    seen: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


def seen_by_subclass(call, args, which):
    """The result where argument `which` is of a subclass, as the result is then, and the functions it sees."""
    args = list(args)
    args[which] = args[which].as_subclass(Tagged)
    Tagged.seen.clear()
    got = call(*args)
    assert isinstance(got, Tagged)
    return got.as_subclass(torch.Tensor), list(Tagged.seen)
