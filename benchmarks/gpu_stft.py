"""stft_fp32 and istft_fp32 by this package's kernels against torch.stft and torch.istft (cuFFT) on a card that PyTorch
has kernels for too: 15 s of sound, hann window, centred.

python benchmarks/gpu_stft.py    # make gpu
"""

import math
import sys
from pathlib import Path

import torch
from bench_stft import SIZES
from blackwell_compat import istft_fp32, stft_fp32
from card_timing import CARD, OnCard, need_kernels

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

if __name__ == "__main__":
    need_kernels()
    with torch.inference_mode():
        forward, inverse = OnCard("gpu_stft"), OnCard("gpu_istft")
        for n_fft, hop, rate in SIZES:
            x, window = torch.randn(8, 15 * rate, device=CARD), torch.hann_window(n_fft, device=CARD)
            args = (n_fft, hop)
            there = {"window": window, "return_complex": True}
            got, peer = stft_fp32(x, *args, **there), torch.stft(x, *args, **there)
            reference.assert_as_accurate(got, peer, reference.in_float64(torch.stft, x, *args, **there))
            flops = 2.5 * n_fft * math.log2(n_fft) * got.numel() / got.shape[-2]  # of a real transform, by convention
            moved = float(4 * x.numel() + 8 * got.numel())
            shape = f"n_fft {n_fft}, hop {hop}, {x.shape[0]} x 15 s"
            forward.products(
                shape,
                lambda i, x=x, a=args, k=there: stft_fp32(x, *a, **k),
                lambda i, x=x, a=args, k=there: torch.stft(x, *a, **k),
                1,
                flops,
                moved,
            )
            back = {"window": window, "length": x.shape[-1]}
            exact = reference.in_float64(torch.istft, peer, *args, **back)
            reference.assert_as_accurate(istft_fp32(peer, *args, **back), torch.istft(peer, *args, **back), exact)
            inverse.products(
                shape,
                lambda i, y=peer, a=args, k=back: istft_fp32(y, *a, **k),
                lambda i, y=peer, a=args, k=back: torch.istft(y, *a, **k),
                1,
                flops,
                moved,
            )
        forward.finish()
        inverse.finish()
