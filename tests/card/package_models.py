"""Models from the packages that users run, small, with random weights.

`make wheel-<version>` installs the packages without what they depend on (extra test-models in pyproject.toml), since
their pins want other releases of torch. So each is entered below its __init__, which imports audio and text libraries,
and what is imported but not called is a stub (the fixture `enter`). The model code is theirs, line for line.
"""

import pytest
import torch
from on_card import values


def kokoro(enter, tmp_path):
    """kokoro.model.KModel: PL-BERT, prosody with packed LSTMs, ISTFTNet with complex STFTs; four frames a token."""
    enter("kokoro")
    from kokoro.model import KModel

    config = {
        "dim_in": 16,
        "dropout": 0.2,
        "hidden_dim": 512,  # fixed in the decoder
        "max_conv_dim": 32,
        "max_dur": 10,
        "n_layer": 2,
        "n_mels": 80,
        "n_token": 60,
        "style_dim": 128,
        "text_encoder_kernel_size": 5,
        "vocab": {},
        "istftnet": {
            "upsample_kernel_sizes": [20, 12],
            "upsample_rates": [10, 6],
            "gen_istft_hop_size": 5,
            "gen_istft_n_fft": 20,
            "resblock_dilation_sizes": [[1, 3, 5]] * 2,
            "resblock_kernel_sizes": [3, 7],
            "upsample_initial_channel": 512,  # fixed too
        },
        "plbert": {
            "hidden_size": 48,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "num_hidden_layers": 2,
        },
    }
    torch.save({}, tmp_path / "empty.pth")  # KModel insists on a checkpoint
    model = KModel(repo_id="none", config=config, model=str(tmp_path / "empty.pth"))
    ids, reference = torch.arange(1, 13)[None], values(1, 256) * 0.1
    return model, lambda d: model.forward_with_tokens(ids.to(d), reference.to(d))


def xtts_gpt(enter, tmp_path):
    """TTS.tts.layers.xtts.gpt.GPT of XTTS v2: conditioning encoder, perceiver, GPT-2 with and without its cache."""
    layers = "TTS.tts.layers"
    enter("TTS", "TTS.tts", layers, f"{layers}.xtts", stubs=["torchaudio", "trainer", "trainer.generic_utils"])
    from transformers import DynamicCache
    from TTS.tts.layers.xtts.gpt import GPT

    model = GPT(
        start_text_token=78,
        stop_text_token=79,
        layers=2,
        model_dim=64,
        heads=4,
        max_text_tokens=40,
        max_mel_tokens=60,
        number_text_tokens=80,
        num_audio_tokens=50,
        start_audio_token=48,
        stop_audio_token=49,
        use_perceiver_resampler=True,
    )
    model.init_gpt_for_inference(kv_cache=True)
    mel, text, codes = values(1, 80, 30), torch.arange(1, 12)[None], torch.arange(1, 20)[None]

    def run(d):
        latents = model.get_style_emb(mel.to(d)).transpose(1, 2)
        hidden = model(
            text.to(d),
            torch.tensor([11], device=d),
            codes.to(d),
            torch.tensor([19 * 1024], device=d),
            cond_latents=latents,
            return_latent=True,
        )
        prompt = torch.cat([model.compute_embeddings(latents, text.to(d)), codes.to(d)], 1)
        whole = model.gpt_inference(input_ids=prompt, use_cache=False, return_dict=True).logits
        first = model.gpt_inference(input_ids=prompt[:, :-1], use_cache=True, return_dict=True)
        cache = first.past_key_values
        if isinstance(cache, tuple):  # transformers 4.50, whose GPT-2 takes a DynamicCache but makes none
            cache = DynamicCache.from_legacy_cache(cache)
        step = model.gpt_inference(input_ids=prompt[:, -1:], past_key_values=cache, use_cache=True, return_dict=True)
        torch.testing.assert_close(torch.cat([first.logits, step.logits], 1).cpu(), whole.cpu())
        return latents, hidden, whole, first.logits, step.logits

    return model, run


def piper(enter, tmp_path):
    """piper.train.vits.models.SynthesizerTrn as Piper's "medium" voices (resblock 2), at a quarter of the width."""
    enter("piper", "piper.train", "piper.train.vits")
    from piper.train.vits.models import SynthesizerTrn

    model = SynthesizerTrn(
        n_vocab=64,
        spec_channels=65,
        segment_size=32,
        inter_channels=48,
        hidden_channels=48,
        filter_channels=96,
        n_heads=2,
        n_layers=2,
        kernel_size=3,
        p_dropout=0.1,
        resblock="2",
        resblock_kernel_sizes=(3, 5),
        resblock_dilation_sizes=((1, 2), (2, 6)),
        upsample_rates=(8, 4),
        upsample_initial_channel=64,
        upsample_kernel_sizes=(16, 8),
        n_speakers=1,
        gin_channels=0,
        use_sdp=True,
    )
    model.dec.remove_weight_norm()  # as the package's own inference does
    ids = torch.arange(1, 21)[None]
    return model, lambda d: model.infer(ids.to(d), torch.tensor([20], device=d))


def chatterbox_t3(enter, tmp_path):
    """chatterbox.models.t3.T3: voice and prompt conditioning with a perceiver, Llama; its width of 1024 is fixed."""
    enter("chatterbox", "chatterbox.models", "chatterbox.models.t3")
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
    from chatterbox.models.t3.modules.cond_enc import T3Cond
    from chatterbox.models.t3.modules.t3_config import T3Config
    from chatterbox.models.t3.t3 import T3

    small = {"num_hidden_layers": 2, "intermediate_size": 256, "attn_implementation": "sdpa"}
    LLAMA_CONFIGS["small"] = LLAMA_CONFIGS["Llama_520M"] | small
    hp = T3Config()
    hp.llama_config_name = "small"
    model = T3(hp)
    text = torch.tensor([[255, *range(1, 15), 0]]).repeat(2, 1)  # two sequences, for the guidance
    speech = torch.arange(20).repeat(2, 1)

    def run(d):
        condition = T3Cond(
            speaker_emb=values(1, 256).to(d),
            emotion_adv=0.5 * torch.ones(1, 1, 1, device=d),
            cond_prompt_speech_tokens=torch.arange(150, device=d)[None],
        )
        out = model(
            t3_cond=condition,
            text_tokens=text.to(d),
            text_token_lens=torch.tensor([16, 16], device=d),
            speech_tokens=speech.to(d),
            speech_token_lens=torch.tensor([20, 18], device=d),
        )
        return out.text_logits, out.speech_logits

    return model, run


def chatterbox_hift(enter, tmp_path):
    """chatterbox.models.s3gen's HiFTGenerator: pitch, a source of harmonics, STFT, iSTFT; an eighth of its width."""
    enter("chatterbox", "chatterbox.models", "chatterbox.models.s3gen", stubs=["scipy", "scipy.signal"])
    from chatterbox.models.s3gen import hifigan
    from chatterbox.models.s3gen.f0_predictor import ConvRNNF0Predictor

    hifigan.get_window = lambda name, length, fftbins: torch.hann_window(length, periodic=fftbins).numpy()
    model = hifigan.HiFTGenerator(
        base_channels=64,
        sampling_rate=24000,
        upsample_rates=[8, 5, 3],
        upsample_kernel_sizes=[16, 11, 7],
        source_resblock_kernel_sizes=[7, 7, 11],
        source_resblock_dilation_sizes=[[1, 3, 5]] * 3,
        f0_predictor=ConvRNNF0Predictor(cond_channels=32),
    )
    mel = values(1, 80, 6)
    return model, lambda d: model.inference(mel.to(d))


def sdxl_unet(enter, tmp_path):
    """diffusers' UNet2DConditionModel in the form of SDXL base: an eighth of its width, 2 transformer layers for 10."""
    pytest.importorskip("diffusers")
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(40, 80, 160),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=[1, 1, 2],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=48 + 6 * 32,
    )
    latent, hidden, pooled, ids = values(2, 4, 16, 16), values(2, 7, 64), values(2, 48), values(2, 6)

    def run(d):
        added = {"text_embeds": pooled.to(d), "time_ids": ids.to(d)}
        step = torch.tensor(7.0, device=d)
        return model(latent.to(d), step, encoder_hidden_states=hidden.to(d), added_cond_kwargs=added).sample

    return model, run


PACKAGES = [kokoro, xtts_gpt, piper, chatterbox_t3, chatterbox_hift, sdxl_unet]
