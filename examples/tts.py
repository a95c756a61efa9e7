"""Text to sound with a VITS model of full size, before and after patch_model.

    python examples/tts.py [--out demo-output]

The weights are random, so the sound is no speech; sizes, layers and time are those of the real model. With weights of
your own, `VitsModel.from_pretrained(...)` takes the place of `make_model()`.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import blackwell_compat as bc
import torch
from measure import speed_ratio
from rich import print
from sound import write_both
from transformers import VitsConfig, VitsModel

TEXT = "it runs on the card you have, with the wheel you have, as fast as it can go"
LETTERS = "_abcdefghijklmnopqrstuvwxyz ,.;:!?'-()"  # 38, the vocabulary of VitsConfig(); _ is the blank
SECONDS = 5


def token_ids(text: str) -> torch.Tensor:
    """One id a character, a blank before, between and after, as VitsTokenizer does."""
    ids = [0]
    for letter in text:
        ids += [LETTERS.index(letter), 0]
    return torch.tensor([ids])


def make_model() -> VitsModel:
    torch.manual_seed(0)
    model = VitsModel(VitsConfig()).eval()

    def durations(_module: object, _args: object, predicted: torch.Tensor) -> torch.Tensor:
        """Untrained, the duration predictor says anything; let all tokens last equally long, SECONDS together."""
        frames = SECONDS * model.config.sampling_rate / 256  # 256 samples a frame
        ends = torch.linspace(0, frames, predicted.shape[-1] + 1).round()
        return (ends.diff() - 0.5).log().expand_as(predicted)  # the model takes ceil(exp(.))

    model.duration_predictor.register_forward_hook(durations)
    return model


@torch.inference_mode()
def speak(model: VitsModel, ids: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)  # VITS samples: the same noise for both models
    return model(ids).waveform[0]


def main(out: Path = Path("demo-output")) -> None:
    model, ids = make_model(), token_ids(TEXT)
    patched = copy.deepcopy(model)  # only to have both at once; patch_model works in place
    report = bc.patch_model(patched)
    print(report)

    before, after = speak(model, ids), speak(patched, ids)
    write_both(out, "tts", before, after, model.config.sampling_rate)
    eager, ours, ratio = speed_ratio(lambda: speak(model, ids), lambda: speak(patched, ids), 5, "speaking")
    print(f"time: {1e3 * eager:.0f} ms before, {1e3 * ours:.0f} ms patched, {ratio:.2f} times as fast")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    main(parser.parse_args().out)
