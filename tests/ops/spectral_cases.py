"""What the tests of stft_fp32 and istft_fp32 share."""

import torch


def make_window(kind, win_length, dtype=torch.float32):
    if kind == "random":
        return torch.rand(win_length, generator=torch.Generator().manual_seed(win_length), dtype=dtype) + 0.1
    return getattr(torch, f"{kind}_window")(win_length, dtype=dtype)
