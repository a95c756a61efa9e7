"""Several cards in one process: each by what serves it."""

import fakecard
import torch

TWO = """
import torch, blackwell_compat as bc
bc.enable()
x = torch.arange(6.0)
first, second = x.to("cuda:0"), x.to("cuda:1")
assert (first * 2).device.index == 0 and (second * 3).device.index == 1
assert torch.equal((second * 3).cpu(), x * 3)
assert torch.equal((first * 2).to("cuda:1").cpu(), x * 2)
assert torch.equal(first.view(2, 3).t().to("cuda:1").cpu(), x.view(2, 3).t())
second.copy_(first.flip(0))
assert torch.equal((second + 1).cpu(), x.flip(0) + 1)
with torch.cuda.device(1):
    assert torch.rand(3, device="cuda").device.index == 1
torch.cuda.manual_seed_all(5)
assert torch.equal(torch.rand(3, device="cuda:0").cpu(), torch.rand(3, device="cuda:1").cpu())
try:
    first + second
except RuntimeError as error:
    assert "cuda:0 and cuda:1" in str(error), error
else:
    raise AssertionError("tensors of two cards were added")
assert torch.equal((first + second.sum()).cpu(), x + 15)
print("two")
"""


def test_two_cards():
    (here,) = (name for name, card in fakecard.cards.items() if card["name"] == torch.cuda.get_device_name())
    done = fakecard.run(TWO, [here, here])
    assert done.returncode == 0, done.stderr
    assert "two" in done.stdout


MIXED = """
import torch, fakecard, blackwell_compat as bc
import blackwell_compat.fallback
blackwell_compat.fallback.lacks_kernels = lambda device: device == 0  # launches do nothing here on the other card
bc.enable()
x = torch.arange(6.0).to("cuda:0")
assert torch.equal((x * 2).cpu(), torch.arange(6.0) * 2)
fakecard.reset()
other = x.to("cuda:1")
for call in (lambda: torch.ones(4, device="cuda:1"), lambda: other.sum(), lambda: torch.rand(3, device="cuda:1")):
    try:
        call()
    except RuntimeError as error:
        assert "not emulated" in str(error), error
    else:
        raise AssertionError("PyTorch's kernel was not called")
assert len(fakecard.counters()["not_emulated"]) == 3, fakecard.counters()
back = x.to("cuda:1").to("cuda:0")
assert torch.equal((back + 1).cpu(), torch.arange(6.0) + 1)
with torch.cuda.device(0):
    assert torch.ones(2, device="cuda").sum().item() == 2
try:
    x + x.to("cuda:1")
except RuntimeError as error:
    assert "same device" in str(error), error
else:
    raise AssertionError("two cards were added")
bc.disable()
print("mixed")
"""


def test_a_rig_with_a_card_that_has_kernels():
    (here,) = (name for name, card in fakecard.cards.items() if card["name"] == torch.cuda.get_device_name())
    done = fakecard.run(MIXED, [here, "H100"])
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13):
        assert done.returncode == 0, done.stderr
        assert "mixed" in done.stdout
    else:
        assert "hide that card with CUDA_VISIBLE_DEVICES" in done.stderr


def test_cards_that_have_kernels_are_left_alone():
    code = """
    import blackwell_compat as bc
    bc.enable()
    """
    done = fakecard.run(code, "H100")
    assert done.returncode != 0
    assert "not emulated" in done.stderr
