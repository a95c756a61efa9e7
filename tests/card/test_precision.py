"""Precision policies on a card: what PyTorch's autocast raises at, what a policy comes to, and whole models."""

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat.precision.policy import resolve
from on_card import CARD, assert_no_launch, values
from test_fallback_models import gpt2

pytestmark = pytest.mark.usefixtures("fallback")
HANN = torch.hann_window(16).bfloat16().float()
BF16 = bc.Policy("bf16", anyway=True)
RAISES = tuple(map(int, torch.__version__.split(".")[:2])) <= (2, 10)  # 2.15 transforms bfloat16 on a card
SPECTRA = {
    "stft": lambda x: torch.stft(x, 16, 4, window=HANN.to(x.device, x.dtype), return_complex=True),
    "rfft": torch.fft.rfft,
    "ihfft2": lambda x: torch.fft.ihfft2(x.view(20, 20)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra_in_bfloat16(name):
    x = values(400).bfloat16().to(CARD)
    if name != "stft" and RAISES:  # stft's inner transform the fallback does in float32, unlike a kernel for the card
        with torch.autocast("cuda", torch.bfloat16), pytest.raises(RuntimeError, match="BFloat16"):
            SPECTRA[name](x)
    with bc.autocast(BF16):
        got = SPECTRA[name](x)
    assert torch.equal(got.cpu(), SPECTRA[name](x.float()).cpu())
    assert_no_launch()


def test_istft_with_a_window_in_bfloat16():
    spectrum = torch.stft(values(400), 16, 4, window=HANN, return_complex=True).to(CARD)
    with bc.autocast(BF16):
        got = torch.istft(spectrum, 16, 4, window=HANN.bfloat16().to(CARD))
    assert torch.equal(got.cpu(), torch.istft(spectrum, 16, 4, window=HANN.to(CARD)).cpu())


def test_what_a_policy_comes_to():
    capability = torch.cuda.get_device_capability()
    wants = torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else torch.float32
    assert resolve("bf16", CARD).dtype == wants
    with bc.autocast("bf16"):
        assert (values(4, 4).to(CARD) @ values(4, 4).to(CARD)).dtype == wants


def test_a_model():
    torch.manual_seed(0)
    model, inputs = gpt2()
    model.eval().to(CARD)
    there = {name: value.to(CARD) for name, value in inputs.items()}
    with torch.no_grad():
        want = model(**there).logits
        report = bc.patch_model(model, "hybrid", policy=BF16)
        got = model(**there).logits
    assert got.dtype == torch.bfloat16
    assert report.precision.startswith("bfloat16")
    assert torch.nn.functional.cosine_similarity(got.float().flatten().cpu(), want.flatten().cpu(), dim=0) > 0.999
    assert_no_launch()


def test_defaults_know_the_card():
    defaults = bc.device_defaults(0, torch.nn.Linear(8, 8))
    assert torch.cuda.get_device_name(0) in str(defaults) or "room for float32" in str(defaults)
    assert defaults.tf32 == (torch.cuda.get_device_capability() >= (8, 0))
    assert ("flash" in defaults.sdpa) <= (torch.cuda.get_device_capability() >= (8, 0))
