"""Models of transformers, small and with random weights. ../shared/workloads/README.md says what is special in each."""

from __future__ import annotations

import copy
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import blackwell_compat as bc
import pytest
import torch
from patching_models import Counted, close, snapshot
from torch import nn
from torch.nn.utils import parametrize
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    VitsConfig,
    VitsModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)
from transformers.models.vits.modeling_vits import VitsHifiGan
from transformers.pytorch_utils import Conv1D


def vits_config(**more):
    return VitsConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, flow_size=32, spectrogram_bins=65,
        upsample_initial_channel=64, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4],
        duration_predictor_filter_channels=32, depth_separable_num_layers=2,
        prior_encoder_num_flows=2, prior_encoder_num_wavenet_layers=2, posterior_encoder_num_wavenet_layers=2, **more,
    )  # fmt: skip


def tokens(vocabulary):
    return torch.randint(1, vocabulary, (2, 9), generator=torch.Generator().manual_seed(5))


def vits():
    model, ids = VitsModel(vits_config()), tokens(30)[:1]

    def run(model):
        torch.manual_seed(7)  # it samples noise
        return model(ids).waveform

    return model, run


def gpt2():
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, n_positions=32, use_cache=False)
    return GPT2LMHeadModel(config), lambda model: model(tokens(100), return_dict=False)[0]


def wav2vec2():
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=(16, 16),
        conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, vocab_size=20,
    )  # fmt: skip
    sound = torch.randn(1, 800, generator=torch.Generator().manual_seed(5))
    return Wav2Vec2Model(config), lambda model: model(sound).last_hidden_state


def bert():
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, vocab_size=100
    )
    return BertModel(config), lambda model: model(tokens(100)).last_hidden_state


# VITS: its random flows and decoder make the roundings of the encoder larger, up to 1e-4 seen on a waveform of -1 to 1;
# its decoder by itself is compared below, as closely as the others
LAYERS = {"vits": 400, "gpt2": 4, "wav2vec2": 8, "bert": 4}
MODELS = {"vits": vits, "gpt2": gpt2, "wav2vec2": wav2vec2, "bert": bert}


def linear_layers(model):
    return [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.ConvTranspose1d, Conv1D))]


@pytest.mark.parametrize("name", MODELS)
def test_the_same_before_and_after_and_unpatched(name, monkeypatch):
    torch.manual_seed(0)
    model, run = MODELS[name]()
    model.eval()
    before = snapshot(model)
    keys = list(model.state_dict())
    with torch.no_grad():
        want = run(model)
        report = bc.patch_model(model)
        counted = Counted(monkeypatch)
        close(run(model), want, layers=LAYERS[name])
        first = run(model)
        assert torch.equal(first, run(model))
    assert report.patched == linear_layers(model)
    assert len(counted.ops) > 0
    assert list(model.state_dict()) == keys
    other = Counted(monkeypatch)
    with torch.no_grad():
        close(run(copy.deepcopy(model)), want, layers=LAYERS[name])
        assert other.ops
        bc.unpatch_model(model)
        other.calls.clear()
        assert torch.equal(run(model), want)
    assert other.ops == []
    assert snapshot(model) == before


@pytest.mark.parametrize("name", ["gpt2", "wav2vec2", "bert"])
def test_gradients_are_the_same(name):
    torch.manual_seed(0)
    model, run = MODELS[name]()
    model.eval()  # no dropout
    grads = []
    for patched in (False, True):
        if patched:
            bc.patch_model(model)
        model.zero_grad()
        run(model).square().mean().backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for key, want in grads[0].items():
        torch.testing.assert_close(grads[1][key], want, rtol=1e-3, atol=1e-5 + 1e-4 * want.abs().max().item())


def test_conv1d_of_transformers_is_a_linear(monkeypatch):
    torch.manual_seed(0)
    layer, x = Conv1D(6, 4), torch.randn(2, 3, 4)
    want = layer(x)
    report = bc.patch_model(layer)
    counted = Counted(monkeypatch)
    close(layer(x), want)
    assert counted.ops == ["compat_linear"]
    assert isinstance(layer, Conv1D)
    assert report.modules[0].cls == "Conv1D"
    other = copy.deepcopy(layer)
    assert type(other) is type(layer)
    bc.unpatch_model(other)
    assert type(other) is Conv1D


class ScaledConv1D(Conv1D):
    def forward(self, x):
        return super().forward(x) * 2


def test_a_subclass_of_that_conv1d(monkeypatch):
    layer, x = ScaledConv1D(6, 4), torch.randn(2, 3, 4)
    want = layer(x)
    bc.patch_model(layer)
    counted = Counted(monkeypatch)
    close(layer(x), want)
    assert counted.ops == ["compat_linear"]


def test_that_conv1d_is_packed_once():
    layer, x = Conv1D(6, 4), torch.randn(2, 3, 4)
    bc.patch_model(layer)
    with torch.no_grad():
        layer(x)
        before = bc._C.stats()["packs_made"]
        layer(x)
    assert bc._C.stats()["packs_made"] == before


def test_gpt2_has_a_tied_head():
    model, _ = gpt2()
    report = bc.patch_model(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    line = next(line for line in report.modules if line.name == "lm_head")
    assert line.patched
    assert "parameters shared with transformer.wte" in line.reason


def test_gpt2_generates_the_same():
    torch.manual_seed(0)
    model, _ = gpt2()
    model.eval()
    model.generation_config.pad_token_id = 0
    with torch.no_grad():
        want = model.generate(tokens(100), max_new_tokens=5, do_sample=False, use_cache=True)
        bc.patch_model(model)
        assert torch.equal(model.generate(tokens(100), max_new_tokens=5, do_sample=False, use_cache=True), want)


def test_wav2vec2_has_a_parametrized_convolution(monkeypatch):
    torch.manual_seed(0)
    model, run = wav2vec2()
    model.eval()
    conv = model.encoder.pos_conv_embed.conv
    assert parametrize.is_parametrized(conv)
    report = bc.patch_model(model)
    line = next(line for line in report.modules if line.name == "encoder.pos_conv_embed.conv")
    assert (line.cls, line.patched) == ("Conv1d", True)
    counted = Counted(monkeypatch)
    with torch.no_grad():
        run(model)
        run(model)
    weights = [w for op, w in counted.calls if op == "compat_conv1d" and w.shape == conv.weight.shape]
    assert len(weights) == 2
    assert weights[0] is weights[1]


def test_the_hifigan_of_vits_runs_channels_last():
    model, _ = vits()
    assert bc.patch_model(model).channels_last == ["decoder"]
    multi = VitsHifiGan(vits_config(num_speakers=4, speaker_embedding_size=8)).eval()
    x, speaker = torch.randn(1, 32, 7), torch.randn(1, 8, 1)
    with torch.no_grad():
        want = multi(x, speaker)
        assert bc.patch_model(multi).channels_last == [""]
        close(multi(x, speaker), want, layers=12)
        assert multi.conv_pre(x).stride(1) == 1


def test_the_hifigan_of_vits_with_its_own_weight_norm():
    torch.manual_seed(0)
    model = VitsHifiGan(vits_config()).eval()
    model.apply_weight_norm()
    x = torch.randn(1, 32, 7)
    with torch.no_grad():
        want = model(x)
        report = bc.patch_model(model)
        close(model(x), want, layers=12)
    assert report.channels_last == [""]
    assert report.left_alone == {}


def test_gpt2_in_one_graph():
    torch.manual_seed(0)
    model, run = gpt2()
    model.eval()
    with torch.no_grad():
        want = run(model)
        bc.patch_model(model)
        torch._dynamo.reset()
        close(run(torch.compile(model, fullgraph=True, backend="aot_eager")), want)
