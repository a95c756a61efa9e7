"""Host code that touches a card's memory, forks, spawned workers, several cards."""

import multiprocessing
import signal

import fakecard
import pytest
import torch

OTHER = "TITAN Xp" if fakecard.cards_here()[0]["major"] != 6 else "RTX 5090"
HERE = fakecard.names_here()[0]


def checked(code, cards=HERE, **options):
    done = fakecard.run(code, cards, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "access", ["ctypes.c_int.from_address(x.data_ptr()).value", "ctypes.memset(x.data_ptr(), 0, 4)"]
)
def test_a_host_touch_is_a_crash_with_a_stack(access):
    done = fakecard.run(
        f"""
        import ctypes, torch
        x = torch.ones(3).cuda()
        def careless():
            return {access}
        careless()
        """,
        HERE,
    )
    assert done.returncode == -signal.SIGSEGV
    assert "fakecard: host code touched the card's memory at 0x" in done.stderr
    assert "ctypes" in done.stderr  # the C stack
    assert "in careless" in done.stderr  # Python's


def test_any_other_crash_is_left_alone():
    done = fakecard.run("import ctypes, torch; torch.ones(3).cuda(); ctypes.string_at(8)", HERE)
    assert done.returncode == -signal.SIGSEGV
    assert "fakecard" not in done.stderr
    assert "Segmentation fault" in done.stderr


def child_of_a_fork(answers):
    try:
        torch.ones(3).cuda()
    except RuntimeError as error:
        answers.put(str(error))


def test_a_fork_cannot_use_the_parents_card():
    torch.ones(3).cuda()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=child_of_a_fork, args=(answers,))
    child.start()
    child.join()
    assert "Cannot re-initialize CUDA in forked subprocess" in answers.get()


def test_forks_before_the_first_use_have_cards_of_their_own():
    checked(
        """
        import multiprocessing, torch
        def child(number, answers):
            x = torch.full((1000,), float(number)).cuda()
            answers.put(x.cpu().unique().tolist())
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        children = [context.Process(target=child, args=(number, answers)) for number in range(3)]
        for it in children: it.start()
        for it in children: it.join()
        assert sorted(answers.get() for _ in children) == [[0.0], [1.0], [2.0]]
        assert torch.ones(3).cuda().tolist() == [1, 1, 1]
        """
    )


def test_data_loader_workers_leave_the_parents_memory_alone():
    x = torch.arange(1000.0).cuda()
    loader = torch.utils.data.DataLoader(list(range(8)), batch_size=2, num_workers=2, pin_memory=True)
    assert [batch.cuda(non_blocking=True).tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert torch.equal(x.cpu(), torch.arange(1000.0))


def child_of_a_spawn(answers):
    answers.put((torch.cuda.get_device_name(), torch.ones(3).cuda().tolist()))


def test_spawned_processes_have_the_card():
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    child = context.Process(target=child_of_a_spawn, args=(answers,))
    child.start()
    child.join()
    assert answers.get() == (fakecard.cards_here()[0]["name"], [1, 1, 1])


def test_two_cards_of_different_capability():
    first, second = fakecard.cards[HERE], fakecard.cards[OTHER]
    out = checked(
        """
        import torch
        print(torch.cuda.device_count(), *(torch.cuda.get_device_capability(i) for i in range(2)))
        a, b = torch.ones(3, device="cpu").to("cuda:0"), torch.full((3,), 2.0).to("cuda:1")
        assert (a.device.index, b.device.index) == (0, 1)
        assert (a.tolist(), b.tolist()) == ([1] * 3, [2] * 3)
        free = [torch.cuda.mem_get_info(i) for i in range(2)]
        kept = torch.empty(64 << 20, dtype=torch.uint8, device="cuda:1")
        assert torch.cuda.mem_get_info(0) == free[0]
        assert torch.cuda.mem_get_info(1)[0] == free[1][0] - (64 << 20)
        """,
        [HERE, OTHER],
    )
    assert out.split("\n")[0] == f"2 ({first['major']}, {first['minor']}) ({second['major']}, {second['minor']})"


@pytest.mark.parametrize("peer", [True, False])
def test_copies_between_cards(peer):
    checked(
        f"""
        import fakecard, torch
        assert torch.cuda.can_device_access_peer(0, 1) is {peer}
        x = torch.arange(1000.0).to("cuda:0")
        fakecard.reset()
        y = x.to("cuda:1")
        assert fakecard.counters()["p2p"] == 1, fakecard.counters()
        assert torch.equal(y.cpu(), torch.arange(1000.0))
        """,
        [HERE, OTHER],
        peer=peer,
    )


def test_only_the_card_without_an_image_refuses():
    out = checked(
        """
        import torch
        for device in range(2):
            x = torch.empty(3, device=f"cuda:{device}")
            try:
                x.add_(1)
            except RuntimeError as error:
                print(str(error).split(chr(10))[0][:60])
        """,
        [HERE, "H100"],
    )
    first, second = out.strip().split("\n")
    assert first == "CUDA error: no kernel image is available for execution on th"
    assert second.startswith("CUDA error: fakecard: this kernel is not emulated")


@pytest.mark.parametrize("setting", ["expandable_segments:True", "backend:cudaMallocAsync"])
def test_other_allocators_of_pytorch(setting, monkeypatch):
    if setting.startswith("expandable") and tuple(map(int, torch.__version__.split(".")[:2])) > (2, 10):
        pytest.skip("this PyTorch asks NVML about a segment, and there is no libnvidia-ml.so.1")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", setting)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", setting)
    checked(
        """
        import torch
        free = torch.cuda.mem_get_info()[0]
        kept = [torch.full((size,), float(size)).cuda() for size in (10, 1000, 10_000_000, 20_000_000)]
        assert all(x.cpu().unique().tolist() == [len(x)] for x in kept)
        assert torch.cuda.mem_get_info()[0] <= free - 120_000_000
        del kept
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        assert torch.cuda.mem_get_info()[0] > free - 30_000_000
        """
    )
