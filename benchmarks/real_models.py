"""Models as users run them, at full size with random weights: what the benchmarks for a card call."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "card"))
from entering import enter


class Job(NamedTuple):
    """A model and what is asked of it; `run` needs it on the device of its inputs."""

    model: nn.Module
    run: Callable[[], torch.Tensor]


def kokoro(device: torch.device, small: bool) -> Job:
    """A sentence of 5 s: 80 phonemes, 200 frames."""
    enter(sys.modules.__setitem__, ["kokoro"])
    from kokoro.model import KModel

    layers, width = (2, 32) if small else (12, 512)
    config = {
        "dim_in": 16 if small else 64,
        "dropout": 0.2,
        "hidden_dim": 512,
        "max_conv_dim": width,
        "max_dur": 50,
        "multispeaker": True,
        "n_layer": 3,
        "n_mels": 80,
        "n_token": 178,
        "style_dim": 128,
        "text_encoder_kernel_size": 5,
        "vocab": {chr(i): i for i in range(178)},
        "istftnet": {
            "upsample_kernel_sizes": [20, 12],
            "upsample_rates": [10, 6],
            "gen_istft_hop_size": 5,
            "gen_istft_n_fft": 20,
            "resblock_dilation_sizes": [[1, 3, 5]] * 3,
            "resblock_kernel_sizes": [3, 7, 11],
            "upsample_initial_channel": 512,
        },
        "plbert": {
            "hidden_size": 768 // (16 if small else 1),
            "num_attention_heads": 4 if small else 12,
            "intermediate_size": 64 if small else 2048,
            "max_position_embeddings": 512,
            "num_hidden_layers": layers,
            "dropout": 0.1,
        },
    }
    with tempfile.NamedTemporaryFile(suffix=".pth") as empty:  # KModel insists on a checkpoint
        torch.save({}, empty.name)
        model = KModel(repo_id="none", config=config, model=empty.name)
    tokens = 4 if small else 80
    frames = 1 if small else 2.5  # a token
    bins = torch.arange(50, device=device)

    def last(module: nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
        ends = (torch.arange(tokens + 1, device=device) * frames).long().diff()
        return torch.where(bins < ends[None, :, None], 20.0, -20.0)

    model.predictor.duration_proj.register_forward_hook(last)
    ids, voice = torch.arange(1, tokens + 1)[None].to(device), torch.randn(1, 256).mul(0.1).to(device)
    return Job(model, lambda: model.forward_with_tokens(ids, voice)[0])


def vits(device: torch.device, small: bool) -> Job:
    """A sentence of 5 s: 151 tokens, 313 frames."""
    narrow = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "ffn_dim": 64,
        "flow_size": 32,
        "upsample_initial_channel": 32,
        "upsample_rates": [4, 4],
        "upsample_kernel_sizes": [8, 8],
        "prior_encoder_num_flows": 1,
        "prior_encoder_num_wavenet_layers": 1,
    }
    model = transformers.VitsModel(transformers.VitsConfig(**(narrow if small else {})))
    tokens, frames = (5, 8) if small else (151, 313)
    ends = torch.linspace(0, frames, tokens + 1).long().diff().clamp(min=1)
    log_durations = (ends - 0.5).log().to(device)  # the model takes ceil(exp(.))
    model.duration_predictor.register_forward_hook(lambda module, args, out: log_durations.expand_as(out))
    model.noise_scale = 0.0
    ids = (torch.arange(tokens) % 37)[None].to(device)
    return Job(model, lambda: model(ids).waveform)


def _decoder(model: nn.Module, prompt: int, device: torch.device) -> Job:
    """A step with a cache that holds a prompt, and the steps before."""
    ids = (torch.arange(prompt) % 97)[None].to(device)
    cache: list[Any] = []

    def run() -> torch.Tensor:
        if not cache:
            made = model(ids, use_cache=True).past_key_values
            legacy = isinstance(made, tuple)  # transformers 4.50 and its GPT-2
            cache.append(transformers.DynamicCache.from_legacy_cache(made) if legacy else made)
        return model(ids[:, -1:], past_key_values=cache[0], use_cache=True).logits

    return Job(model, run)


def gpt2_decode(device: torch.device, small: bool) -> Job:
    narrow = {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 200, "n_positions": 64}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**(narrow if small else {})))
    return _decoder(model, 12 if small else 512, device)


def _llama_block(small: bool) -> nn.Module:
    sizes = {
        "hidden_size": 64 if small else 4096,
        "intermediate_size": 160 if small else 14336,
        "num_attention_heads": 4 if small else 32,
        "num_key_value_heads": 2 if small else 8,
        "vocab_size": 200,
        "num_hidden_layers": 1,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).to(torch.bfloat16)


def llama_block_prefill(device: torch.device, small: bool) -> Job:
    """One layer of the 8B model, bfloat16, 512 tokens."""
    model = _llama_block(small)
    ids = (torch.arange(12 if small else 512) % 97)[None].to(device)
    return Job(model, lambda: model(ids, use_cache=False).logits)


def llama_block_decode(device: torch.device, small: bool) -> Job:
    return _decoder(_llama_block(small), 12 if small else 512, device)


def sdxl_unet(device: torch.device, small: bool) -> Job:
    """A step of a picture of 1024 x 1024 with guidance, float16."""
    from diffusers import UNet2DConditionModel

    by = 8 if small else 1
    model = UNet2DConditionModel(
        sample_size=128 // by,
        block_out_channels=(320 // by, 640 // by, 1280 // by),
        norm_num_groups=32 // by,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=[1, 1, 1] if small else [1, 2, 10],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048 // by,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256 // by,
        projection_class_embeddings_input_dim=1280 // by + 1536 // by,
    ).half()
    side, step = 16 if small else 128, torch.tensor(1.0).to(device)
    latent, hidden, pooled, times = (
        torch.randn(size).half().to(device)
        for size in ((2, 4, side, side), (2, 77, 2048 // by), (2, 1280 // by), (2, 6))
    )
    added = {"text_embeds": pooled, "time_ids": times}
    return Job(model, lambda: model(latent, step, encoder_hidden_states=hidden, added_cond_kwargs=added).sample)


MODELS = [kokoro, vits, gpt2_decode, llama_block_prefill, llama_block_decode, sdxl_unet]
