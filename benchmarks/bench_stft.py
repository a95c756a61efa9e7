"""stft_fp32 against torch.stft: 15 s of sound, hann window, centred."""

import sys
from pathlib import Path

import torch
from blackwell_compat import stft_fp32
from common import Comparison

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

# n_fft, hop_length, samples a second: Kokoro, Whisper, HiFi-GAN, Chatterbox
SIZES = [(20, 5, 24_000), (400, 160, 16_000), (1024, 256, 22_050), (2048, 320, 32_000)]

if __name__ == "__main__":
    table = Comparison("stft")
    for n_fft, hop, rate in SIZES:
        x = torch.randn(15 * rate, generator=torch.Generator().manual_seed(0))
        args = x, n_fft, hop
        kwargs = {"window": torch.hann_window(n_fft), "return_complex": True}
        want = reference.in_float64(torch.stft, *args, **kwargs)
        reference.assert_as_accurate(stft_fp32(*args, **kwargs), torch.stft(*args, **kwargs), want)
        table.compare(
            f"n_fft {n_fft}, hop {hop}",
            lambda a=args, k=kwargs: stft_fp32(*a, **k),
            lambda a=args, k=kwargs: torch.stft(*a, **k),
        )
    table.finish()
