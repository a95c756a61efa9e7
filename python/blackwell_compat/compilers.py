"""NVRTC, which compiles this package's CUDA kernels on the machine they run on: which ones there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blackwell_compat import _C

_SYSTEM = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/sbsa-linux/lib", "/usr/lib/x86_64-linux-gnu")


def _candidates() -> Iterator[Path]:
    named = os.environ.get("BLACKWELL_COMPAT_NVRTC")
    if named:
        yield Path(named)
    packages = [Path(entry) / "nvidia" for entry in sys.path if entry]
    # cuda_nvrtc is the wheel of CUDA 12, cu13 that of 13; 12 comes first, since it alone knows cards before sm_75
    for folder in ("cuda_nvrtc/lib", "cu13/lib"):
        for package in packages:
            yield from sorted((package / folder).glob("libnvrtc.so.*[0-9]"))
    for system in _SYSTEM:
        yield from sorted(Path(system).glob("libnvrtc.so.1[2-9]"))


def find() -> None:
    """Tells _C which NVRTC libraries there are, best first: BLACKWELL_COMPAT_NVRTC, the wheels, the system's."""
    found = dict.fromkeys(str(path.resolve()) for path in _candidates() if path.is_file())
    _C.runtime_set_compilers(list(found))


def compilers() -> list[dict[str, Any]]:
    """The NVRTC libraries that were found and load: path, version ("12.9"), architectures (75 is sm_75)."""
    find()
    return [
        {"path": path, "version": f"{version // 1000}.{version % 1000 // 10}", "architectures": architectures}
        for path, version, architectures in _C.runtime_compilers()
    ]


def embedded() -> dict[str, Any] | None:
    """What was compiled when this package was built: architectures (75 is sm_75), compiler ("nvcc 13.0"); or None."""
    architectures, toolkit = _C.runtime_embedded
    if not architectures:
        return None
    return {"architectures": architectures, "compiler": f"nvcc {toolkit // 1000}.{toolkit % 1000 // 10}"}


def target(capability: tuple[int, int]) -> str:
    """What a kernel is for a card: "sm_120, in this build", "sm_120 by NVRTC 12.9", or why there is none."""
    found = {one["path"]: one["version"] for one in compilers()}
    number = 10 * capability[0] + capability[1]
    try:
        architecture = _C.runtime_embedded_for(number)
        if architecture:
            return f"{architecture}, in this build"
        path, architecture = _C.runtime_target(number)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return f"{architecture} by NVRTC {found[path]}"
