"""Normalisations in mode kernel: PyTorch's own suite, and what models ask beyond it."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card, only_ours, reset
from opinfo_kernels import FLOATS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
TAKEN = {
    *("aten::native_layer_norm", "aten::native_layer_norm_backward", "aten::native_group_norm"),
    *("aten::native_group_norm_backward", "aten::native_batch_norm", "aten::_native_batch_norm_legit"),
    *("aten::_native_batch_norm_legit.no_stats", "aten::native_batch_norm_backward", "aten::_batch_norm_with_update"),
    *("aten::batch_norm_backward", "aten::_fused_rms_norm"),
}
WIDE = (torch.float32, torch.float64)
OPS = {
    **{f"nn_functional_{name}_norm": FLOATS for name in ("layer", "group", "batch", "instance")},
    "nn_functional_batch_norm_without_cudnn": FLOATS,
    "nn_functional_rms_norm": FLOATS,
    # On a card their statistics are float32, as PyTorch makes them; on the CPU they have the dtype of the input
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit"), WIDE),
    "native_layer_norm": (torch.float64,),
}


def layer(x, w, b):
    return F.layer_norm(x, x.shape[-1:], w, b)


def layers(x, w, b):
    return F.layer_norm(x, x.shape[-2:], w[:, None].expand(-1, x.shape[-1]), b[:, None].expand(-1, x.shape[-1]))


def groups_of(count):
    return lambda x, w, b: F.group_norm(x, count, w, b)


def instance(x, w, b):
    return F.instance_norm(x, None, None, w, b)


def batch(x, w, b):
    return F.batch_norm(x, None, None, w, b, training=True)


CASES = [  # as models have them, some of them smaller
    (layer, (1, 77, 768)),
    (layer, (3, 5, 1280)),
    (layer, (2, 9, 50)),
    (layer, (2, 10000)),
    (layer, (700, 24)),
    (layers, (3, 6, 7)),
    (groups_of(32), (2, 320, 8, 8)),
    (groups_of(4), (2, 24, 5, 7)),
    (groups_of(2), (2, 4, 5000)),  # more than a block has registers for
    (groups_of(6), (3, 24)),
    (groups_of(3), (1, 6, 24001)),
    (instance, (1, 20, 400)),
    (instance, (2, 6, 31)),
    (instance, (1, 3, 24001)),
    (batch, (3, 32, 10, 9)),
    (batch, (1, 8, 499)),
    (batch, (40, 19)),
]
IDS = [f"{case.__name__}-{tuple(shape)}" for case, shape in CASES]


def arguments_of(case, shape, dtype, offset=0.0):
    channels = shape[-1] if case is layer else shape[1]
    x = reference.values(*shape, dtype=torch.float64) * 2 + offset
    given = (
        x.to(dtype),
        reference.values(channels, dtype=dtype, seed=1),
        reference.values(channels, dtype=dtype, seed=2),
    )
    return [t.requires_grad_() for t in given]


def fell_back():
    return {line.op for line in bc.fallbacks().lines} & TAKEN


def compare(case, arguments, limit):
    there = on_card(*arguments)
    reset()
    bc.reset_fallbacks()
    got = case(*there)
    seed = reference.values(*got.shape, dtype=got.dtype, seed=3)
    grads = torch.autograd.grad(got, there, seed.to(CARD))
    only_ours()
    assert not fell_back()
    wide = [t.detach().double().requires_grad_() for t in arguments]
    want = case(*wide)
    torch.testing.assert_close(got.detach().cpu().double(), want.detach(), rtol=limit, atol=limit)
    for grad, exact in zip(grads, torch.autograd.grad(want, wide, seed.double()), strict=True):
        torch.testing.assert_close(
            grad.cpu().double(), exact, rtol=limit, atol=limit * max(1, exact.abs().max().item())
        )


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_opinfo(name, dtype):
    check(name, dtype, TAKEN, most=5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("case", "shape"), CASES, ids=IDS)
def test_shapes_of_models(case, shape, dtype):
    limit = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float64: 1e-12}[dtype]
    compare(case, arguments_of(case, shape, dtype), limit)


@pytest.mark.parametrize(("case", "shape"), CASES, ids=IDS)
def test_far_from_zero(case, shape):
    compare(case, arguments_of(case, shape, torch.float32, offset=1e4), 2e-3)


@pytest.mark.parametrize(("case", "shape"), [(layer, (4, 30)), (groups_of(2), (2, 6, 5)), (batch, (3, 6, 5))])
def test_without_parameters(case, shape):
    x = reference.values(*shape)
    there = on_card(x)[0].requires_grad_()
    x.requires_grad_()
    for function in (lambda x: case(x, None, None), lambda x: F.layer_norm(x, x.shape[1:], x[0].detach(), None)):
        got, want = function(there), function(x)
        torch.testing.assert_close(got.detach().cpu(), want.detach(), rtol=1e-5, atol=1e-5)
        seed = reference.values(*want.shape, seed=1)
        (grad,) = torch.autograd.grad(got, there, seed.to(CARD))
        torch.testing.assert_close(grad.cpu(), torch.autograd.grad(want, x, seed)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(4, 6, 5), (1, 6, 10, 9), (8, 6)], ids=str)
def test_running_statistics(shape, dtype):
    """Training makes them, evaluation takes them, in float32 also beside half precision."""
    module = torch.nn.BatchNorm1d(6) if len(shape) < 4 else torch.nn.BatchNorm2d(6)
    twin = type(module)(6)
    there = twin.to(CARD)
    for step in range(3):
        x = (reference.values(*shape, seed=step) * 3 + step).to(dtype)
        got = there(x.to(CARD))
        want = module(x.float())
        limit = 1e-5 if dtype == torch.float32 else 3e-3
        torch.testing.assert_close(got.detach().float().cpu(), want.detach(), rtol=limit, atol=limit)
    torch.testing.assert_close(there.running_mean.cpu(), module.running_mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(there.running_var.cpu(), module.running_var, rtol=1e-3, atol=1e-3)
    there.eval(), module.eval()
    x = reference.values(*shape, dtype=dtype).requires_grad_()
    card_x = x.detach().to(CARD).requires_grad_()
    bc.reset_fallbacks()
    got, want = there(card_x), module(x.float())
    (grad,) = torch.autograd.grad(got.float().pow(2).sum(), card_x)
    assert not fell_back()
    torch.testing.assert_close(got.detach().float().cpu(), want.detach(), rtol=4e-3, atol=4e-3)
    (want_grad,) = torch.autograd.grad(want.pow(2).sum(), x)
    torch.testing.assert_close(grad.cpu(), want_grad, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 16, 6, 4), (2, 6, 9)], ids=str)
def test_channels_last(shape, training):
    x = reference.values(*shape)
    mean, var = reference.values(shape[1], seed=1), reference.values(shape[1], seed=2).abs()
    there = on_card(x.movedim(1, -1).contiguous().movedim(-1, 1), mean, var)
    reset()
    got = F.batch_norm(*there, training=training)
    only_ours()
    assert got.stride() == there[0].stride()
    torch.testing.assert_close(got.cpu(), F.batch_norm(x, mean, var, training=training), rtol=1e-5, atol=1e-5)
    got = F.group_norm(there[0], 2)
    torch.testing.assert_close(got.cpu(), F.group_norm(x, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch.ops.aten, "_fused_rms_norm"), reason="torch 2.8 and newer have it")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rms_norm(dtype):
    x, w = reference.values(2, 9, 3584, dtype=dtype), reference.values(3584, dtype=dtype, seed=1)
    reset()
    got = F.rms_norm(*on_card(x)[:1], (3584,), on_card(w)[0])
    assert "compat_norm_rows" in "".join(only_ours() or {"compat_norm_rows": 1})
    want = F.rms_norm(x.double(), (3584,), w.double(), torch.finfo(torch.float32).eps)
    limit = {torch.float32: 1e-5, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(got.cpu().double(), want, rtol=limit, atol=limit)


def test_the_same_bits_each_time():
    arguments = on_card(*arguments_of(layer, (300, 64), torch.float32))
    seed = reference.values(300, 64).to(CARD)
    first, second = (torch.autograd.grad(layer(*arguments), arguments, seed) for _ in range(2))
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.layer_norm(x, (5,)),
        lambda x: F.layer_norm(x, (4,), x[0, 0, :3]),
        lambda x: F.group_norm(x, 4),
        lambda x: F.batch_norm(x, None, None),
        lambda x: F.batch_norm(x, x[0, 0], x[0, 0]),
    ],
    ids=["shape", "weight", "groups", "statistics", "running"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(2, 6, 4)
    with pytest.raises((RuntimeError, ValueError)) as on_cpu:
        call(x)
    with pytest.raises(on_cpu.type) as on_the_card:
        call(x.to(CARD))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
