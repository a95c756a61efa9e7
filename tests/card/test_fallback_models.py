"""Whole models on a card on which every kernel of PyTorch fails: equal to the CPU."""

import pytest
import torch
from on_card import CARD, assert_no_launch

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("fallback")


def gpt2():
    config = transformers.GPT2Config(n_layer=3, n_embd=64, n_head=4, vocab_size=200, n_positions=64)
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.arange(12)[None] % 200}


def llama():
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=200,
    )
    return transformers.LlamaForCausalLM(config), {"input_ids": torch.arange(12)[None] % 200}


def whisper():
    config = transformers.WhisperConfig(
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        vocab_size=300,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        max_source_positions=50,
    )
    features = torch.sin(torch.arange(8000.0)).view(1, 80, 100)
    return transformers.WhisperModel(config), {
        "input_features": features,
        "decoder_input_ids": torch.tensor([[1, 5, 9]]),
    }


def wav2vec2():
    config = transformers.Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    return transformers.Wav2Vec2Model(config), {"input_values": torch.sin(torch.arange(6000.0))[None]}


def vits():
    config = transformers.VitsConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        ffn_dim=64,
        flow_size=32,
        spectrogram_bins=33,
        upsample_initial_channel=64,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        posterior_encoder_num_wavenet_layers=2,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
    )
    model = transformers.VitsModel(config)
    model.noise_scale = model.noise_scale_duration = 0.0  # else both sides would draw their own noise
    return model, {"input_ids": torch.arange(1, 20)[None]}


def bert():
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=100
    )
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    return transformers.BertModel(config), {"input_ids": torch.arange(18).view(2, 9), "attention_mask": mask}


MODELS = [gpt2, llama, whisper, wav2vec2, vits, bert]


def outputs(result):
    return {name: value for name, value in result.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_equals_the_cpu(make):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    with torch.inference_mode():
        want = outputs(model(**inputs))
        model.to(CARD)
        got = outputs(model(**{name: value.to(CARD) for name, value in inputs.items()}))
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].device.type == CARD
        difference = (got[name].cpu().double() - value.double()).abs().max()
        assert difference <= 1e-5 * value.abs().max(), (name, difference)
    assert_no_launch()


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("mode", ["hybrid", "auto"])
def test_patched_equals_the_cpu(make, mode, fallback):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    with torch.inference_mode():
        want = outputs(model(**inputs))
        assert fallback.patch_model(model.to(CARD), mode).mode == {"auto": "cpu"}.get(mode, mode)
        got = outputs(model(**{name: value.to(CARD) for name, value in inputs.items()}))
    for name, value in want.items():
        assert got[name].device.type == CARD
        difference = (got[name].cpu().double() - value.double()).abs().max()
        assert difference <= 1e-5 * value.abs().max(), (name, difference)
    assert_no_launch()


@pytest.mark.parametrize("mode", [None, "hybrid", "auto"])
@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda make: make.__name__)
def test_generates_the_same_tokens(make, mode, fallback):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    want = model.generate(**inputs, **options)
    model.to(CARD)
    if mode:
        fallback.patch_model(model, mode)
    got = model.generate(**{name: value.to(CARD) for name, value in inputs.items()}, **options)
    assert torch.equal(got.cpu(), want)
    assert_no_launch()


def test_functions_in_torchscript_are_not_fused():
    @torch.jit.script
    def gate(a, b):
        return torch.tanh(a + b) * torch.sigmoid(a - b)

    a, b = torch.linspace(-2, 2, 64), torch.linspace(1, 3, 64)
    for _ in range(6):
        assert torch.equal(gate(a.to(CARD), b.to(CARD)).cpu(), torch.tanh(a + b) * torch.sigmoid(a - b))
    assert_no_launch()


@pytest.mark.parametrize(("make", "most"), [(vits, 16), (gpt2, 16)], ids=["vits", "gpt2"])
def test_second_forward_brings_hardly_anything_to_the_host(make, most, fallback):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval().to(CARD)
    on_card = {name: value.to(CARD) for name, value in inputs.items()}
    with torch.inference_mode():
        model(**on_card)
        fallback.reset_fallbacks()
        model(**on_card)
    assert fallback.fallbacks().totals.to_host <= most, fallback.fallbacks()


@pytest.mark.parametrize(("make", "most"), [(vits, 16), (gpt2, 16)], ids=["vits", "gpt2"])
def test_second_forward_hardly_moves_anything_when_uploads_are_lazy(make, most, fallback):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    with torch.inference_mode(), fallback.lazy_upload():
        want = outputs(model(**inputs))
        model.to(CARD)
        on_card = {name: value.to(CARD) for name, value in inputs.items()}
        model(**on_card)
        torch.cuda.synchronize()
        fallback.reset_fallbacks()
        got = outputs(model(**on_card))
        torch.cuda.synchronize()
        moved = fallback.fallbacks().totals
    assert moved.to_host <= most, fallback.fallbacks()
    assert moved.to_device <= most, fallback.fallbacks()
    for name, value in want.items():
        assert (got[name].cpu().double() - value.double()).abs().max() <= 1e-5 * value.abs().max(), name
    assert_no_launch()
