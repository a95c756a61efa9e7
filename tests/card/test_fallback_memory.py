"""Page-locked memory under the fallback: uploads that the host does not wait for, and never finds changed or reused."""

import ctypes
import multiprocessing
import threading

import fakecard
import pytest
import torch
from blackwell_compat import _C
from on_card import CARD, values

pytestmark = pytest.mark.usefixtures("fallback")
LARGE = 40_000  # elements of float32; smaller results are not page-locked
HERE = fakecard.names_here()[0]


@pytest.fixture
def late():
    """What a stream has to do starts 20 ms after it was asked for."""
    fakecard.change(latency_ms=20)
    yield
    torch.cuda.synchronize()
    fakecard.change(latency_ms=0)


@pytest.fixture
def no_host_copies(fallback):
    """Every read comes from the card, and host memory is freed as soon as its upload is on the way."""
    default = _C.fallback_host_limit()
    fallback.set_host_cache(0)
    yield
    fallback.set_host_cache(default)


@pytest.fixture
def pinned_limit():
    default = _C.fallback_pinned_limit()
    yield
    _C.fallback_set_pinned_limit(default)


def download_later(x):
    """The bytes of the card at this point of the default stream, into pinned memory, without waiting."""
    down = torch.empty(x.shape, pin_memory=True)
    driver, size = ctypes.CDLL("libcuda.so.1"), ctypes.c_size_t(4 * x.numel())
    assert driver.cuMemcpyDtoHAsync_v2(ctypes.c_void_p(down.data_ptr()), ctypes.c_void_p(x.data_ptr()), size, None) == 0
    return down


def test_results_are_page_locked_and_blocks_are_used_again():
    """What an op no longer needs is freed before the next one allocates."""
    y = values(LARGE).to(CARD) * 2
    held, allocations = _C.fallback_pinned_bytes(), fakecard.counters()["host_allocation"]
    assert held >= 4 * LARGE
    for _ in range(200):
        y = y * 1.01
    assert _C.fallback_pinned_bytes() <= held + 5 * 4 * LARGE
    assert fakecard.counters()["host_allocation"] <= allocations + 5


def test_what_was_freed_long_after_its_use_goes_as_well():
    x, one = values(7 * LARGE).to(CARD), values(1).to(CARD)
    many = [x * 2 for _ in range(7)]
    others = [one + i for i in range(20)]
    del many
    for _ in range(200):
        one.clone()
    allocations = fakecard.counters()["host_allocation"]
    many = [x * 2 for _ in range(7)]
    assert fakecard.counters()["host_allocation"] == allocations
    del many, others


@pytest.mark.usefixtures("late")
def test_writing_in_place_waits_for_the_upload():
    x = values(LARGE).to(CARD)
    y = x * 2
    before = download_later(y)
    y.add_(1)
    after = download_later(y)
    torch.cuda.synchronize()
    assert torch.equal(before, values(LARGE) * 2)
    assert torch.equal(after, values(LARGE) * 2 + 1)


@pytest.mark.usefixtures("late")
def test_out_arguments_wait_for_the_upload():
    x, out = values(LARGE).to(CARD), torch.empty(LARGE, device=CARD)
    seen = []
    for i in range(4):
        torch.mul(x, i, out=out)
        seen.append(download_later(out))
    torch.cuda.synchronize()
    assert all(torch.equal(down, values(LARGE) * i) for i, down in enumerate(seen))


@pytest.mark.usefixtures("late", "no_host_copies")
def test_freed_memory_waits_for_the_upload():
    made = [torch.full((LARGE,), float(i), device=CARD) for i in range(12)]  # reads nothing, so waits for nothing
    assert [y.cpu().unique().tolist() for y in made] == [[i] for i in range(12)]


@pytest.mark.usefixtures("late", "no_host_copies")
def test_freed_memory_waits_for_uploads_in_all_streams():
    x, made, streams = values(LARGE).to(CARD), [], [torch.cuda.Stream() for _ in range(3)]
    for i in range(12):
        with torch.cuda.stream(streams[i % 3]):
            fakecard.change(latency_ms=10 * (3 - i % 3))
            made.append(x * i)
    torch.cuda.synchronize()
    assert all(torch.equal(y.cpu(), values(LARGE) * i) for i, y in enumerate(made))


@pytest.mark.usefixtures("late", "no_host_copies")
def test_threads_share_the_pool():
    x, wrong = values(LARGE).to(CARD), []

    def work(number):
        with torch.cuda.stream(torch.cuda.Stream()):
            made = [x * (10 * number + i) for i in range(10)]
            wrong.extend(i for i, y in enumerate(made) if not torch.equal(y.cpu(), values(LARGE) * (10 * number + i)))

    torch.cuda.synchronize()
    fakecard.change(latency_ms=2)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.usefixtures("late")
def test_pinned_memory_of_the_user_may_be_freed_at_once():
    up = [torch.full((LARGE,), float(i)).pin_memory().to(CARD, non_blocking=True) for i in range(6)]
    assert [y.cpu().unique().tolist() for y in up] == [[i] for i in range(6)]
    x = values(LARGE).to(CARD)
    torch.empty(LARGE, pin_memory=True).copy_(x, non_blocking=True)
    other = torch.full((LARGE,), 7.0).pin_memory()
    torch.cuda.synchronize()
    assert other.unique().tolist() == [7]


def test_pageable_memory_that_the_card_reads_in_place():
    done = fakecard.run(
        """
        import fakecard, torch
        import blackwell_compat as bc
        bc.fallback.lacks_kernels = lambda device: True
        bc.enable()
        bc.set_host_cache(0)
        torch.empty(1, device="cuda")
        fakecard.change(latency_ms=20)
        made = [torch.full((300,), float(i), device="cuda") for i in range(12)]
        assert [y.cpu().unique().tolist() for y in made] == [[i] for i in range(12)]
        """,
        "GB10",
    )
    assert done.returncode == 0, done.stderr


def test_the_limit_holds(fallback, pinned_limit):
    x, default = values(LARGE).to(CARD), _C.fallback_host_limit()
    fallback.set_host_cache(0, pinned=0)
    fallback.set_host_cache(default, pinned=0)
    assert _C.fallback_pinned_bytes() == 0
    made = [x * i for i in range(10)]
    assert _C.fallback_pinned_bytes() == 0
    fallback.set_host_cache(default, pinned=1 << 20)
    made += [x * i for i in range(10, 20)]
    assert 0 < _C.fallback_pinned_bytes() <= 1 << 20
    assert all(torch.equal(y.cpu(), values(LARGE) * i) for i, y in enumerate(made))
    with pytest.raises(ValueError, match=r"set_host_cache: pinned must be >= 0 bytes, got -1"):
        fallback.set_host_cache(default, pinned=-1)


def test_pageable_memory_where_the_driver_refuses(fallback, pinned_limit):
    default = _C.fallback_host_limit()
    fallback.set_host_cache(0, pinned=0)
    fallback.set_host_cache(default, pinned=1 << 30)
    x = values(LARGE).to(CARD)
    fakecard.reset()
    fakecard.fault("cuMemHostAlloc", 2, times=1000)
    made = [x * i for i in range(5)]
    assert all(torch.equal(y.cpu(), values(LARGE) * i) for i, y in enumerate(made))
    assert _C.fallback_pinned_bytes() == 0


def in_a_child(x, y, answers):
    del x, y
    answers.put((torch.arange(10) + 1).sum().item())  # small: OpenMP does not survive a fork


def test_a_forked_child_leaves_the_pool_alone():
    x = values(LARGE).to(CARD)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=in_a_child, args=(x, x * 2, answers))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == 55
    assert torch.equal((x * 3).cpu(), values(LARGE) * 3)


def test_a_process_may_end_while_uploads_are_on_the_way():
    code = """
    import torch, blackwell_compat as bc
    bc.enable()
    x = torch.arange(40000.0).to("cuda")
    kept = [x * i for i in range(20)]
    print("done")
    """
    done = fakecard.run(code, HERE, latency_ms=5)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_two_cards_share_the_pool():
    code = """
    import torch, blackwell_compat as bc
    bc.enable()
    bc.set_host_cache(0)
    x = [torch.arange(40000.0).to(f"cuda:{i}") for i in range(2)]
    made = [(x[i % 2] * i, i) for i in range(12)]
    assert all(torch.equal(y.cpu(), torch.arange(40000.0) * i) for y, i in made)
    print("both")
    """
    done = fakecard.run(code, [HERE, HERE], latency_ms=5)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr


def test_disable_gives_the_driver_everything_back():
    code = """
    import torch, blackwell_compat as bc
    from blackwell_compat import _C
    with bc.enabled():
        x = torch.arange(40000.0).to("cuda")
        y = [x * i for i in range(5)]
        assert _C.fallback_pinned_bytes() > 0
    assert _C.fallback_pinned_bytes() == 0, _C.fallback_pinned_bytes()
    print("back")
    """
    done = fakecard.run(code, HERE)
    assert (done.returncode, done.stdout) == (0, "back\n"), done.stderr
