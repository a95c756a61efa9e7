"""The fused steps of torch.optim in mode kernel: the CPU's weights after each, and the CPU is not asked."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, only_ours, reset

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")
SIZES = ((3, 5), (7,), (), (2, 1, 4))
MAKERS = {
    "adam": lambda p, **rest: torch.optim.Adam(p, **{"lr": 0.1, **rest}),
    "adam decay amsgrad": lambda p, **rest: torch.optim.Adam(p, lr=0.1, weight_decay=0.3, amsgrad=True, **rest),
    "adamw": lambda p, **rest: torch.optim.AdamW(p, **{"lr": 0.1, **rest}),
    "adamw maximize amsgrad": lambda p, **rest: torch.optim.AdamW(p, lr=0.1, maximize=True, amsgrad=True, **rest),
    "sgd": lambda p, **rest: torch.optim.SGD(p, **{"lr": 0.1, **rest}),
    "sgd momentum": lambda p, **rest: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.1, **rest),
    "sgd nesterov maximize": lambda p, **rest: torch.optim.SGD(
        p, lr=0.1, momentum=0.8, nesterov=True, maximize=True, **rest
    ),
}


def weights(device, dtype):
    return [torch.nn.Parameter(reference.values(*s, seed=i).to(dtype).to(device)) for i, s in enumerate(SIZES)]


def give_gradients(parameters, step, scale=1.0):
    for i, p in enumerate(parameters):
        p.grad = (reference.values(*p.shape, seed=10 * step + i) * scale).to(p.dtype).to(p.device)


def compare(there, here, dtype):
    limit = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    for ours, peer in zip(there, here, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.detach().cpu(), peer.detach(), rtol=limit, atol=limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_steps(name, dtype):
    here, there = weights("cpu", dtype), weights(CARD, dtype)
    plain, fused = MAKERS[name](here, fused=True), MAKERS[name](there, fused=True)
    reset()
    bc.reset_fallbacks()
    for step in range(4):
        for parameters, optimizer in ((here, plain), (there, fused)):
            give_gradients(parameters, step)
            optimizer.step()
    only_ours()
    assert {line.op for line in bc.fallbacks().lines} <= {"aten::copy_"}  # of the gradients, from the host
    compare(there, here, dtype)
    for p, q in zip(there, here, strict=True):
        for key, value in plain.state[q].items():
            if torch.is_tensor(value):
                torch.testing.assert_close(fused.state[p][key].cpu(), value, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("where", ["cpu", CARD], ids=str)
def test_a_rate_that_is_a_tensor(name, where):
    here, there = weights("cpu", torch.float32), weights(CARD, torch.float32)
    plain = MAKERS[name](here, lr=0.05)
    fused = MAKERS[name](there, lr=torch.tensor(0.05, device=where), fused=True)
    bc.reset_fallbacks()
    for parameters, optimizer in ((here, plain), (there, fused)):
        give_gradients(parameters, 0)
        optimizer.step()
    assert {line.op for line in bc.fallbacks().lines} <= {"aten::copy_"}  # of the gradients, from the host
    compare(there, here, torch.float32)


@pytest.mark.parametrize("name", ["adam decay amsgrad", "adamw", "sgd momentum"])
@pytest.mark.parametrize("bad", [None, float("inf"), float("nan")])
def test_scaled_gradients(name, bad):
    """As GradScaler calls it: grads are unscaled, and one that is not finite leaves all as it was."""
    here, there = weights("cpu", torch.float32), weights(CARD, torch.float32)
    plain, fused = MAKERS[name](here), MAKERS[name](there, fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=64.0)
    for step in range(3):
        skipped = step == 1 and bad is not None
        give_gradients(here, step)
        give_gradients(there, step, 64.0)
        scaler.scale(torch.ones((), device=CARD))
        if skipped:
            there[0].grad[0, 0] = bad
        else:
            plain.step()
        before = [p.detach().cpu() for p in there]
        bc.reset_fallbacks()
        scaler.step(fused)
        assert {line.op for line in bc.fallbacks().lines} <= {"aten::copy_"}  # of the gradients, from the host
        compare(there, before if skipped else here, torch.float32)
        if not skipped:
            for p, q in zip(there, here, strict=True):
                torch.testing.assert_close(p.grad.cpu(), q.grad)
        scaler.update(64.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lists_that_do_not_fit_change_nothing(momentum):
    there = [torch.ones(4, device=CARD), torch.ones(3, 1, device=CARD)]
    grads, buffers = ([torch.ones(4, device=CARD), torch.ones(1, device=CARD)] for _ in range(2))
    with pytest.raises(RuntimeError):
        torch._fused_sgd_(
            there,
            grads[:-1],
            buffers if momentum else [],
            weight_decay=0.1,
            momentum=momentum,
            lr=0.1,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
    assert all(torch.equal(p.cpu(), torch.ones(p.shape)) for p in there)
