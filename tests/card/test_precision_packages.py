"""The models that users run, on the CPU by the bfloat16 policy: as near to float32 as the policy promises."""

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat.precision.report import under
from on_card import tensors, values
from package_models import chatterbox_hift, chatterbox_t3, kokoro, piper, sdxl_unet, xtts_gpt
from test_fallback_models import bert, gpt2, llama, vits, wav2vec2, whisper

transformers = pytest.importorskip("transformers")
BF16 = bc.Policy("bf16", anyway=True)


def floats(result):
    return [t.double() for t in tensors(result) if t.is_floating_point()]


def cosine(got, want):
    return torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0).item()


def spectrogram(t):
    window = torch.hann_window(64, dtype=torch.float64)
    return torch.stft(t.reshape(1, -1), 64, 16, window=window, return_complex=True).abs()


def decibels(got, want):
    return (10 * torch.log10(want.square().sum() / (got - want).square().sum())).item()


def inputs_of(module, run):
    """What a module is called with in a run."""
    seen = {}
    handle = module.register_forward_pre_hook(
        lambda m, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True
    )
    run()
    handle.remove()
    return seen["args"], seen["kwargs"]


def by_policy(module, call):
    with torch.no_grad():
        torch.manual_seed(1)
        want = floats(call())
        torch.manual_seed(1)
        with under(module, BF16), bc.autocast(BF16):
            got = floats(call())
    return zip(got, want, strict=True)


@pytest.mark.parametrize("make", [gpt2, llama, whisper, wav2vec2, bert], ids=lambda make: make.__name__)
def test_hidden_states(make):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    if hasattr(model.config, "output_hidden_states"):
        model.config.output_hidden_states = True
    for got, want in by_policy(model, lambda: dict(model(**inputs))):
        assert cosine(got, want) >= 0.999


@pytest.mark.parametrize("make", [xtts_gpt, chatterbox_t3, sdxl_unet], ids=lambda make: make.__name__)
def test_hidden_states_of_packages(make, enter, tmp_path):
    torch.manual_seed(0)
    model, run = make(enter, tmp_path)
    model.eval()
    for got, want in by_policy(model, lambda: run("cpu")):
        assert cosine(got, want) >= 0.999


def parts(name, enter, tmp_path):
    """Parts of a speech model, each with what it is called with: those with hidden states, and the vocoder."""
    torch.manual_seed(0)
    if name == "vits":
        model, inputs = vits()
        hidden, vocoder, run = ["text_encoder", "flow"], "decoder", lambda: model(**inputs)
    else:
        model, on = {"kokoro": kokoro, "piper": piper}[name](enter, tmp_path)
        hidden = {"kokoro": ["bert", "text_encoder"], "piper": ["enc_p", "flow"]}[name]
        vocoder, run = {"kokoro": "decoder.generator", "piper": "dec"}[name], lambda: on("cpu")
    model.eval()
    with torch.no_grad():
        calls = {
            part: (model.get_submodule(part), *inputs_of(model.get_submodule(part), run)) for part in [*hidden, vocoder]
        }
    if name == "kokoro":  # 6 frames of its generator take long enough
        module, (x, style, f0), rest = calls[vocoder]
        calls[vocoder] = module, (x[..., :6], style, f0[..., :6]), rest
    return calls, vocoder


SPEECH = ["vits", "piper", "kokoro"]


@pytest.mark.parametrize("name", SPEECH)
def test_parts_of_speech_models(name, enter, tmp_path):
    calls, vocoder = parts(name, enter, tmp_path)
    for part, (module, args, kwargs) in calls.items():
        for got, want in by_policy(module, lambda m=module, a=args, k=kwargs: m(*a, **k)):
            if part == vocoder:
                assert decibels(spectrogram(got), spectrogram(want)) >= 30
            else:
                assert cosine(got, want) >= 0.999, part


def hifigan(enter, tmp_path):
    """TTS's HifiganGenerator as in XTTS v2, at an eighth of its width."""
    enter("TTS", "TTS.vocoder", "TTS.vocoder.models", stubs=["trainer", "trainer.io"])
    from TTS.vocoder.models.hifigan_generator import HifiganGenerator

    model = HifiganGenerator(
        in_channels=64,
        out_channels=1,
        resblock_type="1",
        resblock_dilation_sizes=[[1, 3, 5]] * 3,
        resblock_kernel_sizes=[3, 7, 11],
        upsample_kernel_sizes=[16, 16, 4, 4],
        upsample_initial_channel=64,
        upsample_factors=[8, 8, 2, 2],
        inference_padding=0,
        cond_channels=32,
        conv_pre_weight_norm=False,
        conv_post_weight_norm=False,
        conv_post_bias=False,
        cond_in_each_up_layer=True,
    )
    return model.eval(), (values(1, 64, 6), values(1, 32, 1))


class Decoder(torch.nn.Module):
    """The part of a HiFTGenerator that is its decode(mel, source)."""

    def __init__(self, hift):
        super().__init__()
        self.hift = hift

    def forward(self, mel, source):
        return self.hift.decode(mel, source)


def hift(enter, tmp_path):
    model, run = chatterbox_hift(enter, tmp_path)
    with torch.no_grad():
        source = run("cpu")[1]
    return Decoder(model).eval(), (values(1, 80, 6), source)


VOCODERS = {"xtts hifigan": hifigan, "chatterbox hift": hift}


@pytest.mark.parametrize("name", VOCODERS)
def test_spectrograms_of_vocoders(name, enter, tmp_path):
    torch.manual_seed(0)
    vocoder, args = VOCODERS[name](enter, tmp_path)
    for got, want in by_policy(vocoder, lambda: vocoder(*args)):
        assert decibels(spectrogram(got), spectrogram(want)) >= 30


@pytest.mark.parametrize("name", [*SPEECH, *VOCODERS])
def test_suggest_policy_reaches_40_decibels(name, enter, tmp_path):
    torch.manual_seed(0)
    if name in VOCODERS:
        vocoder, args = VOCODERS[name](enter, tmp_path)
    else:
        calls, part = parts(name, enter, tmp_path)
        vocoder, args, kwargs = calls[part]
        args = (*args, *kwargs.values())
    suggested = bc.suggest_policy(vocoder, args, 0.01)
    assert bc.precision_report(vocoder, args, suggested).whole.decibels >= 40
    vectors = sum(p.numel() for p in vocoder.parameters())
    kept = sum(p.numel() for name in suggested.float32 for p in vocoder.get_submodule(name).parameters())
    assert kept < vectors / 2
