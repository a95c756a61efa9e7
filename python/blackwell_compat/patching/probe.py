"""Whether PyTorch's kernels work on a device. The probe launches and compares, it trusts no table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from blackwell_compat import fallback
from blackwell_compat.kernels import has_wheel_kernels

SECONDS = 60  # for a child process to import torch, open the card and run the probe
_CHILD = "import json, sys; from blackwell_compat.patching.probe import probe; print(json.dumps(probe(sys.argv[1])))"
_examined: dict[torch.device, dict[str, str]] = {}


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


def examine(device: torch.device) -> dict[str, str]:
    """probe(), out of harm's way: for a card that the wheel was not built for in a child process, since a kernel that
    hangs or writes where it should not would take this one along. That it lacks kernels is remembered, and what the
    child says."""
    if fallback.serves(device):
        return {"all": f"{fallback.NO_KERNEL}; the fallback is enabled"}
    if device.type != "cuda" or not torch.cuda.is_available():
        return probe(device)
    if device not in _examined:
        if has_wheel_kernels(device) or not _is_python():
            failed = probe(device)
            may_change = not any(map(fallback.means_no_kernel, failed.values()))
        else:
            failed = _probe_in_child(device)
            may_change = "probe" in failed  # it gave no answer
        if may_change:
            return failed
        _examined[device] = failed
    return dict(_examined[device])


def _is_python() -> bool:
    """Whether sys.executable is an interpreter, and not a program that Python is a part of."""
    return Path(sys.executable or "").stem.lower().startswith("python")


def _probe_in_child(device: torch.device) -> dict[str, str]:
    """What probe() says in a process of its own, or under "probe" why it says nothing."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _CHILD, str(device)]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"probe": f"not done after {SECONDS} s in a process of its own"}
    except OSError as error:
        return {"probe": f"no process could be started: {error}"}
    try:
        answer: dict[str, str] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return {"probe": f"its process ended with status {ended.returncode}: {last}"}
    return answer
