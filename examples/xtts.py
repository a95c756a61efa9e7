"""XTTS v2, before and after patch_model: a GPT writes codes of speech, HiFi-GAN makes sound of its hidden states.

pip install '.[xtts]' torchaudio    # the torchaudio of the torch that is there; with torch 2.9 or newer also torchcodec
python examples/xtts.py                                  # a small one with random weights, nothing is downloaded
python examples/xtts.py --model ~/XTTS-v2 --speaker "Ana Florence"     # a folder with config.json, model.pth, ...
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import before_and_after, device_of, exact, options, show_speed, warm_up
from rich import print
from sound import write_both
from TTS.tts.layers.xtts.gpt import GPT
from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

TEXT = "It runs on the card you have, with the wheel you have."
RATE = 24000  # Hz
CODES = {  # of XTTS v2
    "number_text_tokens": 6681,
    "start_text_token": 261,
    "stop_text_token": 0,
    "num_audio_tokens": 1026,
    "start_audio_token": 1024,
    "stop_audio_token": 1025,
    "max_text_tokens": 402,
    "max_mel_tokens": 605,
    "use_perceiver_resampler": True,
}
FULL = {"layers": 30, "model_dim": 1024, "heads": 16}, 512  # and the channels of HiFi-GAN's first stage
SMALL = {"layers": 6, "model_dim": 256, "heads": 4}, 128


class Voice(torch.nn.Module):
    """Xtts.inference of a sentence, with the likeliest code at each step, so that two runs can be compared."""

    def __init__(self, gpt: GPT, decoder: HifiDecoder) -> None:
        super().__init__()
        self.gpt, self.decoder = gpt, decoder

    def forward(self, text: torch.Tensor, latents: torch.Tensor, speaker: torch.Tensor) -> tuple[torch.Tensor, ...]:
        text, latents, speaker = (given.to(device_of(self)) for given in (text, latents, speaker))
        codes = self.gpt.generate(latents, text, do_sample=False, repetition_penalty=10.0)
        tokens, samples = torch.tensor(
            [[text.shape[1]], [codes.shape[1] * self.gpt.code_stride_len]], device=text.device
        )
        hidden = self.gpt(text, tokens, codes, samples, cond_latents=latents, return_latent=True)
        return codes[0].cpu(), self.decoder(hidden, g=speaker).flatten().cpu()


def make(arguments: Namespace) -> tuple[Voice, tuple[torch.Tensor, ...]]:
    """With random weights; and a text, what the GPT knows of a speaker, and what HiFi-GAN does."""
    torch.manual_seed(0)
    sizes, channels = FULL if arguments.full else SMALL
    gpt = GPT(**CODES, **sizes)
    gpt.init_gpt_for_inference()
    gpt.max_gen_mel_tokens = arguments.codes
    gpt.mel_head.bias.data[CODES["stop_audio_token"]] = -1e4  # untrained, it would stop anywhere
    decoder = HifiDecoder(decoder_input_dim=sizes["model_dim"], upsample_initial_channel_decoder=channels)
    text = torch.randint(1, 6000, (1, len(TEXT) // 3))
    return Voice(gpt, decoder), (text, torch.randn(1, 32, sizes["model_dim"]), torch.randn(1, 512, 1))


def load(arguments: Namespace) -> tuple[Voice, tuple[torch.Tensor, ...]]:
    """The same of the files that coqui publishes."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.models.xtts import Xtts

    config = XttsConfig()
    config.load_json(Path(arguments.model) / "config.json")
    model = Xtts.init_from_config(config)
    model.load_checkpoint(config, checkpoint_dir=arguments.model)
    text = torch.tensor([model.tokenizer.encode(TEXT.lower(), lang="en")])
    latents, embedding = model.speaker_manager.speakers[arguments.speaker].values()
    return Voice(model.gpt, model.hifigan_decoder), (text, latents, embedding)


def main(given: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--codes", type=int, default=48, help="of 46 ms each, where the weights are random")
    parser.add_argument("--speaker", default="Ana Florence", help="of --model")
    arguments = parser.parse_args(given)
    model, inputs = load(arguments) if arguments.model else make(arguments)
    before, after = before_and_after(model.eval(), arguments)
    with torch.inference_mode(), exact():
        warm_up(after, *inputs)
        (wanted, want), (codes, got) = before(*inputs), after(*inputs)
        if not torch.equal(wanted, codes):
            raise SystemExit("xtts.py: patching changed a code")
        print(f"the same {len(codes)} codes of speech")
        write_both(arguments.out, "xtts", want, got, RATE)
        show_speed(before, after, lambda model: model(*inputs), arguments.rounds, len(want) / RATE, "seconds of sound")


if __name__ == "__main__":
    main()
