"""istft_fp32: the public function over torch.ops.blackwell_compat.istft_fp32."""

from __future__ import annotations

import torch


def istft_fp32(
    input: torch.Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> torch.Tensor:
    """Inverse short-time Fourier transform, always computed in float32 or float64; same values as torch.istft.

    Args:
        input: (bins, frames) or (B, bins, frames), not empty; complex32, complex64 or complex128; CPU or CUDA.
        n_fft: samples of a frame. hop_length: samples from frame to frame, n_fft // 4 by default, <= win_length.
        win_length: samples of the window, n_fft by default; a shorter one stands in the middle of the frame.
        window: (win_length,) of any dtype, or None for ones.
        center: drops the n_fft // 2 samples on both sides that stft with `center` padded.
        normalized: the spectrum was divided by sqrt(n_fft).
        onesided: bins is n_fft // 2 + 1; by default where it is not n_fft.
        length: samples of the result; zeros follow where the frames end before.
        return_complex: keeps the imaginary part; needs onesided=False.
    Returns:
        (length,) or (B, length); float32, or float64 where `input` or `window` has that precision; complex with
        return_complex. The same bits for any number of threads.
    Raises:
        RuntimeError: a rule above is broken, or no window reaches some sample ("window overlap add min: 1").
        IndexError: input has fewer than two dimensions.
    Source: the formula of torch.istft; on the CPU frames are transformed, windowed, added and divided by the sum of the
        squared windows block by block.
    """
    return torch.ops.blackwell_compat.istft_fp32(  # type: ignore[no-any-return]
        input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex
    )
