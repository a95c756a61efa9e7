"""Which modes there are, and which one a model can have. The probe launches and compares, it trusts no table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

MODES = ("auto", "native", "kernel", "hybrid", "cpu")
MISSING = {
    "kernel": "this version has no CUDA kernels of its own",
    "hybrid": "this version does not compute on the CPU with data on the device",
}


class NotAvailable(RuntimeError):
    """A mode or option that this version or this machine does not have; the message says why and what there is."""


def tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def device_of(model: nn.Module) -> torch.device:
    """Where the model is: the first device that is neither the CPU nor meta, else the CPU."""
    for t in tensors(model):
        if t.device.type not in ("cpu", "meta"):
            return t.device
    return torch.device("cpu")


def _fill(device: torch.device) -> torch.Tensor:
    return torch.zeros(8, device=device) + 1


def _linear(device: torch.device) -> torch.Tensor:
    return F.linear(_ramp(device).reshape(3, 8), _ramp(device).reshape(3, 8))


def _conv1d(device: torch.device) -> torch.Tensor:
    return F.conv1d(_ramp(device).reshape(1, 2, 12), _ramp(device).reshape(4, 2, 3))


def _stft(device: torch.device) -> torch.Tensor:
    window = torch.ones(8).to(device)
    return torch.view_as_real(torch.stft(_ramp(device), 8, 4, window=window, center=False, return_complex=True))


def _ramp(device: torch.device) -> torch.Tensor:
    return ((torch.arange(24) % 5) / 4).to(device)  # made on the CPU: a copy needs no kernel


PROBES: dict[str, Callable[[torch.device], torch.Tensor]] = {
    "fill and add": _fill,
    "linear": _linear,
    "conv1d": _conv1d,
    "stft": _stft,
}


def probe(device: torch.device | str) -> dict[str, str]:
    """Runs PyTorch's kernels on a device, one family after the other, and compares with the CPU.

    Returns:
        What went wrong, by family; empty where everything works.
    """
    device = torch.device(device)
    failed = {}
    for name, run in PROBES.items():
        try:
            got, want = run(device).cpu(), run(torch.device("cpu"))
            if not torch.allclose(got, want, rtol=1e-2, atol=1e-2):  # TF32 is allowed to be coarse
                failed[name] = f"wrong numbers, off by {(got - want).abs().max().item():.3g}"
        except Exception as error:  # RuntimeError, AssertionError, torch.AcceleratorError: whatever the wheel raises
            failed[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
    return failed


def candidates(mode: str, model: nn.Module) -> list[tuple[str, str]]:
    """The modes to try, best first, each with the reason for it.

    Raises:
        ValueError: no such mode. NotAvailable: the mode asked for cannot be had; the message says why.
    """
    if mode not in MODES:
        raise ValueError(f"patch_model: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode in MISSING:
        raise NotAvailable(f"mode {mode!r}: {MISSING[mode]}; use 'auto', 'native' or 'cpu'")
    device = device_of(model)
    if mode == "cpu":
        return [("cpu", "asked for")]
    if device.type == "cpu":
        if mode == "auto":
            return [("cpu", "the model is on the CPU")]
        return [("native", "asked for; the model is on the CPU")]
    failed = probe(device)
    what = "; ".join(f"{name}: {why}" for name, why in failed.items())
    if mode == "native":
        if failed:
            raise NotAvailable(f"mode 'native': PyTorch's kernels do not work on {device} ({what}); use 'cpu'")
        return [("native", f"asked for; PyTorch's kernels work on {device}")]
    if failed:
        reasons = "; ".join(f"{name}: {why}" for name, why in MISSING.items())
        return [("cpu", f"PyTorch's kernels do not work on {device} ({what}); {reasons}")]
    return [
        ("native", f"PyTorch's kernels work on {device}"),
        ("cpu", "native raised"),
    ]
