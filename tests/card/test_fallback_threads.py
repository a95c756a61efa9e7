"""Eight threads at once, each with ops of its own: every result is that of the CPU."""

import contextlib
import threading

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat import _C
from on_card import CARD, assert_no_launch, on_the_card, values

pytestmark = pytest.mark.usefixtures("fallback")
both_ways = pytest.mark.parametrize("lazy", [False, True], ids=["at once", "lazy"])

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


@contextlib.contextmanager
def uploads(lazy):
    """At once or lazily, while another thread flushes and drops the host's copies now and then."""
    stop, failed, limit = threading.Event(), [], _C.fallback_host_limit()

    def disturb():
        try:
            while not stop.wait(0.001):
                torch.cuda.synchronize()
                bc.set_host_cache(2000)
                bc.set_host_cache(limit)
        except BaseException as error:
            failed.append(error)

    with bc.lazy_upload() if lazy else contextlib.nullcontext():
        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            yield
        finally:
            stop.set()
            disturber.join()
            bc.set_host_cache(limit)
    assert failed == []


@both_ways
def test_eight_threads(lazy):
    wanted = [mixed_ops("cpu", seed, ROUNDS) for seed in range(THREADS)]
    drawn = [mixed_ops(CARD, seed, 1)[3] for seed in range(THREADS)]
    with uploads(lazy):
        got = in_threads(lambda seed: mixed_ops(CARD, seed, ROUNDS))
    again = in_threads(lambda seed: mixed_ops(CARD, seed, 1)[3])  # no thread took of another's generator
    assert all(torch.equal(a, b) for a, b in zip(again, drawn, strict=True))
    for (sums, state, weight, _), (wanted_sums, wanted_state, wanted_weight, _) in zip(got, wanted, strict=True):
        torch.testing.assert_close(torch.tensor(sums), torch.tensor(wanted_sums), rtol=1e-5, atol=1e-4)
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


@both_ways
def test_threads_write_to_parts_of_one_tensor(lazy):
    """Each to its own rows, while the host's copies are made and dropped at any time: no write is lost."""
    halves = [torch.zeros(2, 512, device=CARD) for _ in range(THREADS // 2)]  # one row of two brings both to the host
    rows = torch.zeros(THREADS, 512, device=CARD)  # one row of eight comes alone

    def work(seed):
        mine, written = [halves[seed // 2][seed % 2], rows[seed]], []
        for i in range(ROUNDS):
            for part in mine:
                want = values(512) * (i + seed)
                part.copy_(want)
                part.mul_(2)
                part[::3].add_(1)
                want.mul_(2)[::3].add_(1)
                written.append(torch.equal(part.cpu(), want))
        return all(written)

    with uploads(lazy):
        assert in_threads(work) == [True] * THREADS
    assert_no_launch()


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "released"])
def test_threads_share_a_hybrid_model(keep):
    """From its first call on. What one returns and what is made of it are on the card, whoever is in another call."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv1d(16, 24, 3, padding=1), torch.nn.GELU(), torch.nn.Linear(40, 48), torch.nn.Softmax(-1)
    ).eval()
    inputs = [torch.randn(2, 16, 40) for _ in range(THREADS)]
    with torch.inference_mode():
        wanted = [model(x) for x in inputs]
    bc.patch_model(model.to(CARD), "hybrid", keep_on_device=keep)

    def work(seed):
        with torch.inference_mode():
            for _ in range(ROUNDS // 4):
                y = model(inputs[seed].to(CARD))
                twice = y * 2
                for found in (on_the_card(y), y.cpu(), on_the_card(twice) / 2):
                    torch.testing.assert_close(found, wanted[seed])

    in_threads(work)
    assert_no_launch()
