"""Kokoro on a card that PyTorch has no kernels for, or on the CPU: the same sound before and after patch_model.

    pip install '.[kokoro]'
    python examples/kokoro_old_card.py                               # Kokoro-82M with random weights; downloads nothing
    python examples/kokoro_old_card.py --model hexgrad/Kokoro-82M    # or a folder with its files
    python examples/kokoro_old_card.py --device cuda:0 --mode kernel

Under the name kokoro.py it would be imported in the package's place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blackwell_compat as bc
import torch
from huggingface_hub import hf_hub_download
from kokoro.model import KModel
from measure import before_and_after, exact, options, show_speed, warm_up
from rich import print
from sound import Comparable, write_both

PHONEMES = "ɪt ɹˈʌnz ˌɑn ðə kˈɑɹd ðæt ju hˈæv, wɪð ðə wˈil ðæt ju hˈæv."  # noqa: RUF001
RATE = 24000  # Hz
FRAMES = 2  # of 25 ms, for each phoneme where the weights are random
CONFIG: dict[str, Any] = {  # of Kokoro-82M
    "dim_in": 64,
    "dropout": 0.2,
    "hidden_dim": 512,
    "max_conv_dim": 512,
    "max_dur": 50,
    "n_layer": 3,
    "n_mels": 80,
    "n_token": 178,
    "style_dim": 128,
    "text_encoder_kernel_size": 5,
    "vocab": {phoneme: i for i, phoneme in enumerate(sorted(set(PHONEMES)), 1)},
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
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 2048,
        "max_position_embeddings": 512,
        "num_hidden_layers": 12,
    },
}


@torch.no_grad()  # weight_norm's products are leaves then, which can be copied
def make(name: str | None, voice: str) -> tuple[KModel, torch.Tensor]:
    """The model, and the style of a voice."""
    if name is not None:
        folder = Path(name)
        config, weights, styles = (
            str(folder / file) if folder.is_dir() else hf_hub_download(name, file)
            for file in ("config.json", "kokoro-v1_0.pth", f"voices/{voice}.pt")
        )
        return KModel(name, config, weights), torch.load(styles, weights_only=True)[len(PHONEMES) - 1]
    torch.manual_seed(0)
    with tempfile.NamedTemporaryFile(suffix=".pth") as empty:  # KModel insists on a checkpoint
        torch.save({}, empty.name)
        model = KModel("random weights", CONFIG, empty.name)
    lasts = torch.where(torch.arange(CONFIG["max_dur"]) < FRAMES, 20.0, -20.0)  # a sigmoid and a sum follow
    model.predictor.duration_proj.register_forward_hook(lambda _module, _args, out: lasts.to(out.device).expand_as(out))
    return model, torch.randn(1, 256) * 0.1


def main(given: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--voice", default="af_heart", help="of --model")
    arguments = parser.parse_args(given)
    if torch.device(arguments.device).type == "cuda":
        print(str(bc.doctor()))
    model, style = make(arguments.model, arguments.voice)
    before, after = before_and_after(model.eval(), arguments)
    with torch.inference_mode(), exact():
        warm_up(after, PHONEMES, style)
        with Comparable():
            want = before(PHONEMES, style)
        with Comparable():
            got = after(PHONEMES, style)
        # Not all: its vocoder takes phases, and that of next to nothing is any, by a rounding error
        write_both(arguments.out, "kokoro", want, got, RATE, share=0.9)
        seconds = len(want) / RATE
        show_speed(before, after, lambda model: model(PHONEMES, style), arguments.rounds, seconds, "seconds of sound")


if __name__ == "__main__":
    main()
