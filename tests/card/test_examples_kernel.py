"""The examples of whole models, which compare what comes out with PyTorch on the CPU: on a card nothing falls back."""

import functools

import blackwell_compat as bc
import fakecard
import pytest
import torch
from small_examples import SMALL, run

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("chosen")

COPIES = {"aten::copy_", "aten::_local_scalar_dense"}  # between the card and the host, where the model asks for it


def enter_packages(name, enter, monkeypatch):
    """As package_models does."""
    if name == "kokoro_old_card":
        enter("kokoro")
    elif name == "sdxl":
        pytest.importorskip("diffusers")
    elif name == "xtts":
        inner = ["encoder", "encoder.models", "vocoder", "vocoder.models", "tts", "tts.layers", "tts.layers.xtts"]
        stubs = ["coqpit", "torchaudio", "trainer", "trainer.generic_utils", "trainer.io"]
        enter("TTS", *(f"TTS.{package}" for package in inner), stubs=stubs)
        from TTS.tts.layers.xtts import gpt_inference, hifigan_decoder

        monkeypatch.setattr(hifigan_decoder, "ResNetSpeakerEncoder", torch.nn.Identity)  # of torchaudio; not called
        forward = gpt_inference.GPT2InferenceModel.forward

        @functools.wraps(forward)
        def with_cache(model, *args, **kwargs):
            """GPT-2 of transformers 4.50 takes a DynamicCache but returns tuples; 5.24 has another name for it."""
            if "cache" in kwargs:
                kwargs["past_key_values"] = kwargs.pop("cache")
            out = forward(model, *args, **kwargs)
            if isinstance(out.past_key_values, tuple):
                out.past_key_values = transformers.DynamicCache.from_legacy_cache(out.past_key_values)
            return out

        monkeypatch.setattr(gpt_inference.GPT2InferenceModel, "forward", with_cache)


@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.__name__)
def test_beside_a_card(small, enter, monkeypatch, tmp_path, capsys):
    enter_packages(small.__name__, enter, monkeypatch)
    run(small, monkeypatch, tmp_path, "--device=cpu")
    assert "mode cpu" in capsys.readouterr().out


@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.__name__)
def test_on_a_card(small, enter, monkeypatch, tmp_path, capsys):
    enter_packages(small.__name__, enter, monkeypatch)
    run(small, monkeypatch, tmp_path, "--device=cuda:0", "--mode=kernel", timed=not fakecard.here())
    printed = capsys.readouterr().out
    assert "mode kernel" in printed
    assert "kernels made ready" in printed
    assert {line.op for line in bc.fallbacks().lines} <= COPIES
    if fakecard.here():
        launched = fakecard.counters()["launched"]
        assert launched
        assert all(name.startswith("compat_") for name in launched), launched
