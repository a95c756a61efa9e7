"""stft_fp32 against torch.stft: 15 s of sound at 22,050 Hz, hann window, centred."""

import sys
from pathlib import Path

import torch
from blackwell_compat import stft_fp32
from common import Comparison

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

SAMPLES = 330_750
SIZES = [(n_fft, n_fft // 4) for n_fft in (20, 400, 1024, 2048)]  # n_fft, hop_length

if __name__ == "__main__":
    table = Comparison("stft")
    x = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))
    for n_fft, hop in SIZES:
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
