"""What the examples share about sound."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import torch
from measure import check
from rich import print
from torch.overrides import TorchFunctionMode


def write_wav(path: Path, sound: torch.Tensor, rate: int) -> None:
    """16-bit mono; full scale is 1, `rate` in Hz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound.clamp(-1, 1) * 32767).round().numpy().astype("<i2").tobytes())


def write_both(out: Path, name: str, before: torch.Tensor, after: torch.Tensor, rate: int, share: float = 1.0) -> None:
    """Files of both sounds, at half of full scale; `share` of the samples has to be the same but for rounding."""
    out.mkdir(parents=True, exist_ok=True)
    for when, sound in ("before", before), ("patched", after):
        write_wav(out / f"{name}-{when}.wav", sound / before.abs().max() / 2, rate)
    print(f"{len(before) / rate:.2f} s of sound at {rate} Hz in {out}/{name}-before.wav and {name}-patched.wav")
    check(before, after, share)


class Comparable(TorchFunctionMode):
    """Random numbers are the CPU's, from one seed, and phases of -pi are pi, so that two runs can be compared.

    At the mirrored ends of a signal spectra are real, and a rounding error decides between the two phases.
    """

    def __enter__(self) -> Comparable:
        torch.manual_seed(1)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.rand, torch.randn):
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs.get("device"))
        if func in (torch.rand_like, torch.randn_like):
            return func(args[0].cpu(), **kwargs).to(args[0].device)
        result = func(*args, **kwargs)
        return torch.where(result < -3.14, result + 2 * torch.pi, result) if func is torch.angle else result
