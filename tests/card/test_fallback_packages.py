"""Models from the packages that users run: on a card without kernels as on the CPU."""

import pytest
import torch
from on_card import CARD, assert_no_launch, tensors
from package_models import PACKAGES

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("fallback", "drawn_on_the_cpu")


@pytest.mark.parametrize("make", PACKAGES, ids=lambda make: make.__name__)
def test_equals_the_cpu(make, enter, tmp_path):
    torch.manual_seed(0)
    model, run = make(enter, tmp_path)
    model.eval()
    with torch.no_grad():
        torch.manual_seed(1)
        want = tensors(run("cpu"))
        model.to(CARD)
        torch.manual_seed(1)
        got = tensors(run(CARD))
    assert len(got) == len(want) > 0
    for on_card, on_cpu in zip(got, want, strict=True):
        assert on_card.device.type == CARD
        assert on_card.shape == on_cpu.shape
        assert on_cpu.isfinite().all()
        difference = (on_card.cpu().double() - on_cpu.double()).abs().max()
        assert difference <= 1e-5 * on_cpu.abs().max(), difference
    assert_no_launch()
