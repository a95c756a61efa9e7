"""The fake card as PyTorch sees it."""

import fakecard
import pytest
import torch

CARD = fakecard.cards_here()[0]


def test_pytorch_sees_the_card():
    found = torch.cuda.get_device_properties(0)
    assert torch.cuda.is_available()
    assert (found.name, found.major, found.minor) == (CARD["name"], CARD["major"], CARD["minor"])
    assert (found.total_memory, found.multi_processor_count) == (CARD["memory"], CARD["multiprocessors"])


def test_a_kernel_has_no_image():
    with pytest.raises(RuntimeError, match="no kernel image is available for execution on the device"):
        torch.empty(3, device="cuda").add_(1)
    (name,) = fakecard.counters()["refused"]
    assert "add" in name.lower()


def test_copies_go_down_and_up():
    want = torch.arange(10.0)
    assert torch.equal(torch.empty(10, device="cuda").copy_(want).cpu(), want)
    counted = fakecard.counters()
    assert (counted["h2d"], counted["h2d_bytes"]) == (1, 40)
    assert (counted["d2h"], counted["d2h_bytes"]) == (1, 40)
    assert not counted["launched"]
