"""istft_fp32 against torch.istft: 15 s of sound, hann window, centred.

Vocoders compute the spectrum, so its frames lie side by side in memory; that of torch.stft has its bins so.
"""

import sys
from pathlib import Path

import torch
from blackwell_compat import istft_fp32
from common import Comparison

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

# n_fft, hop_length, samples a second: Kokoro, Whisper, HiFi-GAN, Chatterbox
SIZES = [(20, 5, 24_000), (400, 160, 16_000), (1024, 256, 22_050), (2048, 320, 32_000)]

if __name__ == "__main__":
    table = Comparison("istft")
    for n_fft, hop, rate in SIZES:
        x = torch.randn(15 * rate, generator=torch.Generator().manual_seed(0))
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
