"""istft_fp32 against torch.istft: 15 s of sound at 22,050 Hz, hann window, centred.

Vocoders compute the spectrum, so its frames lie side by side in memory; that of torch.stft has its bins so.
"""

import sys
from pathlib import Path

import torch
from blackwell_compat import istft_fp32
from common import Comparison

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

SAMPLES = 330_750
SIZES = [(n_fft, n_fft // 4) for n_fft in (20, 400, 1024, 2048)]  # n_fft, hop_length

if __name__ == "__main__":
    table = Comparison("istft")
    x = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))
    for n_fft, hop in SIZES:
        window = torch.hann_window(n_fft)
        from_stft = torch.stft(x, n_fft, hop, window=window, return_complex=True)
        for layout, spectrum in {"of a vocoder": from_stft.contiguous(), "of torch.stft": from_stft}.items():
            args, kwargs = (spectrum, n_fft, hop), {"window": window}
            want = reference.in_float64(torch.istft, *args, **kwargs)
            reference.assert_as_accurate(istft_fp32(*args, **kwargs), torch.istft(*args, **kwargs), want)
            table.compare(
                f"n_fft {n_fft}, hop {hop}, spectrum {layout}",
                lambda a=args, k=kwargs: istft_fp32(*a, **k),
                lambda a=args, k=kwargs: torch.istft(*a, **k),
            )
    table.finish()
