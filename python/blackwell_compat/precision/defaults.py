"""What people set by hand for a model on a device, chosen and explained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from blackwell_compat.kernels import has_wheel_kernels, index_of
from blackwell_compat.precision.policy import Policy, resolve

ROOMY = 20 << 30  # bytes of a card on which float32 is no question of memory
MEMORY_LEFT = 1 << 30  # bytes for the driver, the display and other programs


@dataclass(frozen=True)
class DeviceDefaults:
    """Settings for a model on a device; prints as a table with reasons. Nothing is changed until apply().

    Attributes:
        device: the device. policy: for patch_model(policy=...) and autocast.
        tf32: float32 matrix products and convolutions may be rounded to TF32 inside.
        cudnn_benchmark: cuDNN tries its algorithms for each new shape.
        memory_fraction: of the card's memory that PyTorch may take; None: no limit.
        sdpa: kinds of fused attention left on, of "flash", "mem_efficient", "math".
        why: the reason for each.
    """

    device: str
    policy: Policy
    tf32: bool
    cudnn_benchmark: bool
    memory_fraction: float | None
    sdpa: tuple[str, ...]
    why: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what json.dumps takes."""
        return {**asdict(self), "policy": self.policy.dtype, "sdpa": list(self.sdpa)}

    def apply(self) -> None:
        """Sets everything but the policy, for the whole process."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.backends.cuda.enable_flash_sdp("flash" in self.sdpa)
        torch.backends.cuda.enable_mem_efficient_sdp("mem_efficient" in self.sdpa)
        torch.backends.cuda.enable_math_sdp("math" in self.sdpa)
        if self.memory_fraction is not None:
            torch.cuda.set_per_process_memory_fraction(self.memory_fraction, torch.device(self.device))

    def rows(self) -> list[tuple[str, str, str]]:
        shown = {**self.to_dict(), "sdpa": ", ".join(self.sdpa)}
        return [(name, str(shown[name]), reason) for name, reason in self.why.items()]

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"Settings for {self.device}")
        for column in ("setting", "value", "why"):
            table.add_column(column)
        for row in self.rows():
            table.add_row(*map(Text, row))
        return table

    def __str__(self) -> str:
        return "\n".join(f"{name} = {value}: {reason}" for name, value, reason in self.rows())


def device_defaults(device: torch.device | str | int, model: nn.Module) -> DeviceDefaults:
    """Chooses precision and switches for a model on a device from its memory, the model's size and the card.

    Args:
        device: the CPU or a card.
        model: wherever it is; its parameters and buffers are counted as if they were float32.
    Returns:
        DeviceDefaults: print it, and call apply() to set what it says.
    Raises:
        ValueError: `device` is neither CPU nor CUDA.
    """
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}.values()
    size = 4 * sum(t.numel() for t in tensors if t.is_floating_point())
    if device.type == "cpu":
        return _for_cpu(device)
    if device.type != "cuda":
        raise ValueError(f"device_defaults: device must be the CPU or a CUDA device, got {device}")
    device = torch.device("cuda", index_of(device))
    free, total = torch.cuda.mem_get_info(device)
    capability = torch.cuda.get_device_capability(device)
    shown = f"{total / 2**30:.0f} GiB, {free / 2**30:.1f} free; the model takes {size / 2**30:.2f} GiB in float32"
    why = {}
    if total >= ROOMY and size < free / 2:
        policy = Policy("fp32")
        why["policy"] = f"{shown}: there is room for float32"
    else:
        wanted = "bf16" if capability >= (8, 0) else "fp16"
        policy = Policy(wanted, store=wanted if size > free / 2 else None)
        resolved = resolve(policy, device)
        policy = policy if resolved.dtype != torch.float32 else Policy("fp32", store=policy.store)
        why["policy"] = f"{shown}: {resolved.why}" + (f"; weights are kept in {policy.store}" if policy.store else "")
    tensor_cores = capability >= (8, 0)
    why["tf32"] = (
        "from 8.0 on tensor cores take it, many times as fast; 10 bits of mantissa" if tensor_cores else "needs 8.0"
    )
    images = any(isinstance(module, nn.Conv2d | nn.Conv3d) for module in model.modules())
    why["cudnn_benchmark"] = (
        "images come in few sizes: a trial pays"
        if images
        else "lengths change from call to call: each would be a trial"
    )
    fraction = round(max(0.5, 1 - MEMORY_LEFT / total), 3)
    why["memory_fraction"] = "leaves 1 GiB for the driver, the display and other programs"
    native = has_wheel_kernels(device)
    sdpa = (*(("flash",) if tensor_cores and native else ()), *(("mem_efficient",) if native else ()), "math")
    why["sdpa"] = (
        ("flash needs 8.0, " if not tensor_cores else "") + "the fastest that fits is taken"
        if native
        else "this wheel has no kernels of fused attention for the card"
    )
    return DeviceDefaults(str(device), policy, tensor_cores, images, fraction, sdpa, why)


def _for_cpu(device: torch.device) -> DeviceDefaults:
    resolved = resolve("bf16", device)
    policy = Policy("bf16" if resolved.dtype == torch.bfloat16 else "fp32")
    why = {
        "policy": resolved.why,
        "tf32": "for cards alone",
        "cudnn_benchmark": "for cards alone",
        "memory_fraction": "for cards alone",
        "sdpa": "all that the CPU has",
    }
    return DeviceDefaults(str(device), policy, False, False, None, ("flash", "math"), why)
