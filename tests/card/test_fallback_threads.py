"""Eight threads at once, each with ops of its own: every result is that of the CPU."""

import threading

import pytest
import torch
from on_card import CARD, assert_no_launch

pytestmark = pytest.mark.usefixtures("fallback")

THREADS, ROUNDS = 8, 100  # ten ops a round


def mixed_ops(device, seed, rounds):
    """Linear algebra, views, in-place, copies both ways, random numbers, item(); gives what every round found."""
    generator = torch.Generator(device=device).manual_seed(seed)
    host = torch.Generator().manual_seed(seed)
    found, state = [], torch.randn(12, 12, generator=host).to(device)
    weight = torch.nn.Parameter(torch.randn(12, 12, generator=host).to(device) / 12)
    for i in range(rounds):
        fresh = torch.randn(12, 12, generator=host).to(device)  # up
        state = torch.tanh(state @ weight.detach().t() + fresh)  # linear algebra
        state[i % 12].mul_(0.5)  # in place, through a view
        state.t()[:, ::2].add_(0.25)
        q, _ = torch.linalg.qr(state + 3 * torch.eye(12, device=device))
        part = torch.empty(12, 6, device=device).copy_(q[:, ::2])  # on the card, with strides
        drawn = torch.rand(5, device=device, generator=generator)
        assert 0 <= drawn.min().item() < 1
        if i % 10 == 0:
            (state.detach() @ weight).square().sum().backward()
            with torch.no_grad():
                weight.sub_(weight.grad, alpha=1e-4)
            weight.grad = None
        found += [state.sum().item(), part.cpu().abs().sum().item()]  # down
    return found, state.cpu(), weight.detach().cpu(), torch.rand(8, device=device, generator=generator).cpu()


def in_threads(work):
    """work(0) to work(7), all at once."""
    results, failed = [None] * THREADS, []
    start = threading.Barrier(THREADS)

    def run(seed):
        try:
            start.wait()
            results[seed] = work(seed)
        except BaseException as error:
            failed.append((seed, error))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    return results


def test_eight_threads():
    wanted = [mixed_ops("cpu", seed, ROUNDS) for seed in range(THREADS)]
    drawn = [mixed_ops(CARD, seed, 1)[3] for seed in range(THREADS)]
    got = in_threads(lambda seed: mixed_ops(CARD, seed, ROUNDS))
    again = in_threads(lambda seed: mixed_ops(CARD, seed, 1)[3])  # no thread took of another's generator
    assert all(torch.equal(a, b) for a, b in zip(again, drawn, strict=True))
    for (values, state, weight, _), (wanted_values, wanted_state, wanted_weight, _) in zip(got, wanted, strict=True):
        torch.testing.assert_close(torch.tensor(values), torch.tensor(wanted_values), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(state, wanted_state, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(weight, wanted_weight, rtol=1e-5, atol=1e-5)
    assert_no_launch()


def test_threads_share_a_model_in_half_precision():
    """Its host copies and their float32 copies are made by whichever thread comes first."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.GELU(), torch.nn.Linear(96, 64)).half().to(CARD)
    inputs = [torch.randn(4, 64).half() for _ in range(THREADS)]
    with torch.inference_mode():
        wanted = [model(x.to(CARD)).cpu() for x in inputs]
        model.to("cpu").to(CARD)  # nothing of it is on the host any more

    def work(seed):
        with torch.inference_mode():
            return [model(inputs[seed].to(CARD)).cpu() for _ in range(ROUNDS // 4)]

    for got, want in zip(in_threads(work), wanted, strict=True):
        assert all(torch.equal(y, want) for y in got)
    assert_no_launch()
