"""A card whose streams start work 20 ms after it was asked for: what must wait does, by name of what it waits for."""

import fakecard
import pytest
import torch
from on_card import CARD, values

pytestmark = pytest.mark.usefixtures("fallback")


@pytest.fixture(autouse=True)
def late(fallback):
    fakecard.change(latency_ms=20)
    yield
    torch.cuda.synchronize()
    fakecard.change(latency_ms=0)


def test_a_blocking_copy_to_pinned_memory_has_arrived():
    x, back = values(64).to(CARD), torch.zeros(64).pin_memory()
    back.copy_(x)
    assert torch.equal(back, values(64))


def test_a_blocking_copy_from_pinned_memory_has_read_it():
    source = values(64).pin_memory()
    x = torch.empty(64, device=CARD)
    x.copy_(source)
    source.zero_()
    assert torch.equal(x.cpu(), values(64))


@pytest.mark.parametrize("pinned", [False, True])
def test_a_blocking_copy_to_the_card_has_ended(pinned):
    source = values(64).pin_memory() if pinned else values(64)
    x = torch.empty(64, device=CARD)
    x.copy_(source)
    assert torch.cuda.current_stream().query()  # other streams may read it, which do not wait for this one
    fakecard.change(latency_ms=500)
    x.copy_(source, non_blocking=True)
    assert not torch.cuda.current_stream().query()


def test_a_copy_on_the_card_comes_before_what_reads_it():
    x, y = values(64).to(CARD), torch.zeros(64).to(CARD)
    assert torch.equal((y + 1).cpu(), torch.ones(64))  # from here on the host has it
    y.copy_(x)
    assert torch.equal((y + 1).cpu(), values(64) + 1)


def test_a_copy_between_cards_comes_after_the_work_of_both():
    code = """
    import torch, fakecard, blackwell_compat as bc
    bc.enable()
    x = torch.arange(64.0).to("cuda:0")
    y = torch.empty(64, device="cuda:1")
    torch.cuda.synchronize(0)
    fakecard.change(latency_ms=500)
    y.copy_(torch.zeros(64).pin_memory(), non_blocking=True)  # begins long after the copy below would
    fakecard.change(latency_ms=1)
    y.copy_(x)
    torch.cuda.synchronize(1)
    assert torch.equal(y.cpu(), torch.arange(64.0)), y
    """
    (here,) = (name for name, card in fakecard.cards.items() if card["name"] == torch.cuda.get_device_name())
    done = fakecard.run(code, [here, here], latency_ms=20)
    assert done.returncode == 0, done.stderr


def test_work_of_another_stream_is_waited_for_by_its_event():
    stream, x = torch.cuda.Stream(), torch.zeros(64).to(CARD)
    with torch.cuda.stream(stream):
        x.copy_(values(64).pin_memory(), non_blocking=True)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal((x * 2).cpu(), values(64) * 2)
