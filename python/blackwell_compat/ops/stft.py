"""stft_fp32: the public function over torch.ops.blackwell_compat.stft_fp32."""

from __future__ import annotations

import torch


def stft_fp32(
    input: torch.Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> torch.Tensor:
    """Short-time Fourier transform, always computed in float32 or float64; same values as torch.stft.

    Args:
        input: (L,) or (B, L); float16, bfloat16, float32, float64 or complex; CPU or CUDA. B may be 0.
        n_fft: samples of a frame, >= 1, any number. hop_length: samples from frame to frame, n_fft // 4 by default.
        win_length: samples of the window, n_fft by default; a shorter one stands in the middle of the frame.
        window: (win_length,) of any dtype, or None for ones.
        center: pads n_fft // 2 samples on both sides, so that frame t is centred on sample t * hop_length.
        pad_mode: "reflect", "constant", "replicate" or "circular".
        normalized: divides by sqrt(n_fft). onesided: bins up to n_fft // 2 only; by default where all is real.
        return_complex: False gives (..., 2) with real and imaginary part; must be given where all is real.
        align_to_window: without `center`, counts frames by win_length instead of n_fft.
    Returns:
        (bins, frames) or (B, bins, frames), the bins of a frame side by side in memory; complex64, or complex128 where
        `input` or `window` is float64.
    Raises:
        RuntimeError: a rule above is broken; the message names the argument and what it got.
        NotImplementedError: an unknown pad_mode.
    Source: the formula of torch.stft; on the CPU frames are loaded, windowed and transformed block by block.
    """
    return torch.ops.blackwell_compat.stft_fp32(  # type: ignore[no-any-return]
        input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided, return_complex,
        align_to_window,
    )  # fmt: skip
