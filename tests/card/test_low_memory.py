"""A card without memory left for a kernel: what PyTorch's allocator keeps for later makes room, once."""

import blackwell_compat as bc
import fakecard
import pytest
import torch
from on_card import CARD

pytestmark = [pytest.mark.usefixtures("chosen"), pytest.mark.own_process]
needs_memory = pytest.mark.parametrize("call", ["cuModuleLoadData", "cuModuleGetFunction", "launch"])
X = torch.linspace(-1, 1, 5, dtype=torch.float64)


@needs_memory
def test_a_kernel_takes_the_place_of_cached_memory(call):
    x = X.to(CARD)
    torch.empty(64 << 20, dtype=torch.uint8, device=CARD)
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    assert cached >= 64 << 20
    fakecard.fault(call, 2)
    got = torch.sinh(x)
    assert torch.cuda.memory_reserved() - torch.cuda.memory_allocated() <= cached - (64 << 20)
    torch.testing.assert_close(got.cpu(), X.sinh())


def test_warmup_makes_room_as_well():
    class Sinh(torch.nn.Linear):
        def forward(self, x):
            return x.sinh()

    model, x = Sinh(1, 1).to(CARD), X.to(CARD)
    torch.empty(64 << 20, dtype=torch.uint8, device=CARD)
    fakecard.fault("cuModuleLoadData", 2)
    assert bc.warmup(model, x) == 1
    assert torch.cuda.memory_reserved() < 64 << 20


@needs_memory
def test_an_error_where_that_is_not_enough(call):
    x = X.to(CARD)
    fakecard.fault(call, 2, times=2)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"OUT_OF_MEMORY \(2\).* compat_pointwise_sinh_f64"):
        torch.sinh(x)
    torch.testing.assert_close(torch.sinh(x).cpu(), X.sinh())
