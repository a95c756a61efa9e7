"""What the tests of the fallback share: the same function on the CPU and on the card, compared to the bit."""

import ctypes
from collections.abc import Callable
from typing import Any

import fakecard
import torch
from blackwell_compat import _C
from fakecard.api import read

CARD = "cuda"


def values(*size: int) -> torch.Tensor:
    """Different values without zeros, from -1 to 1."""
    count = torch.Size(size).numel()
    return torch.linspace(0.1, count + 0.1, count).mul(1.7).sin().reshape(size)


def tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, dict):
        return [t for value in result.values() for t in tensors(value)]
    return [t for value in result for t in tensors(value)] if isinstance(result, list | tuple) else []


def same(on_card: torch.Tensor, on_cpu: torch.Tensor, tolerance: float = 0) -> None:
    """Equal in everything but the device."""
    assert on_card.device.type == CARD, on_card.device
    assert on_card.stride() == on_cpu.stride() or on_cpu.numel() < 2, (on_card.stride(), on_cpu.stride())
    assert on_card.is_conj() == on_cpu.is_conj()
    assert on_card.is_neg() == on_cpu.is_neg()
    torch.testing.assert_close(on_card.detach().cpu(), on_cpu.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)


def assert_same_on_card(function: Callable[[str], Any], tolerance: float = 0) -> None:
    """`function(device)` gives the same on both, in the card's memory too, and no kernel of PyTorch was started."""
    torch.manual_seed(0)
    want = tensors(function("cpu"))
    torch.manual_seed(0)
    got = tensors(function(CARD))
    assert len(got) == len(want) > 0
    for _ in ("from the host's copies", "from the card"):
        for on_card, on_cpu in zip(got, want, strict=True):
            same(on_card, on_cpu, tolerance)
        _C.fallback_flush()
        _C.fallback_drop_copies()
    assert_no_launch()


def device_bytes(address: int, count: int, card: int = 0) -> torch.Tensor:
    """float32 values at an address of the card as foreign code sees them that is in order with the default stream."""
    host = torch.empty(count)
    driver, size = ctypes.CDLL("libcuda.so.1"), ctypes.c_size_t(4 * count)
    with torch.cuda.device(card):
        assert driver.cuMemcpyDtoH_v2(ctypes.c_void_p(host.data_ptr()), ctypes.c_void_p(address), size) == 0
    return host


def unseen_address(x: torch.Tensor) -> int:
    """Of a tensor, as C++ code takes it that Python does not see."""
    return torch._C.TensorBase.data_ptr(x)


def on_the_card(x: torch.Tensor) -> torch.Tensor:
    """What the card's memory holds of a contiguous tensor, past every copy that is kept of it."""
    assert x.is_contiguous()
    return torch.frombuffer(bytearray(read(unseen_address(x), x.nbytes)), dtype=x.dtype).view(x.shape)


def assert_no_launch() -> None:
    """No kernel of PyTorch's; mode "auto" tries one of this package's, once in a process."""
    counted = fakecard.counters()
    theirs = [name for name in counted["launched"] if not name.startswith("compat_")]
    assert not theirs, theirs
    assert not counted["refused"], counted["refused"]
