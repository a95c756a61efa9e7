"""A card for machines without one: a preloaded stand-in for the CUDA runtime and driver. README.md says what is real.

In a process under the card (pytest --card, or one started with `environment`): `counters`, `reset`, `fault`, `change`.
Anywhere: `build`, `environment`, `cards`, `wheel_python`.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from .build import build

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

__all__ = [
    "build",
    "cards",
    "cards_here",
    "change",
    "counters",
    "environment",
    "fault",
    "here",
    "library",
    "reset",
    "restart_on",
    "run",
    "wheel_python",
]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
cards: dict[str, dict[str, Any]] = tomllib.loads(HERE.joinpath("cards.toml").read_text())


def wheel_python(wheel: str) -> Path:
    """The interpreter of the venv with torch `wheel`, which `make wheel-<version>` creates."""
    found = ROOT / ".venv-wheels" / wheel / "bin" / "python"
    if not found.is_file():
        raise FileNotFoundError(f"no environment with torch {wheel}; create it: make wheel-{wheel}")
    return found


def runtime_version(python: Path) -> int:
    """Which CUDA the torch beside `python` was made for, as cudaRuntimeGetVersion says it: 12010."""
    (version,) = python.parents[1].glob("lib/python*/site-packages/torch/version.py")
    found = re.search(r"^cuda.*= '(\d+)\.(\d+)'", version.read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"{version}: this torch was built without CUDA")
    return int(found[1]) * 1000 + int(found[2]) * 10


def environment(
    card: str | list[str],
    wheel: str | None = None,
    *,
    cuda: int | None = None,
    latency_ms: float = 0,
    bus_gb_per_s: float = 0,
    peer: bool = True,
    memory_limit: int = 0,
    driver: int = 13020,
) -> dict[str, str]:
    """The environment variables of a process that is to find `card`, one of `cards` or several, or a list of them.

    Args:
        wheel: version of torch in .venv-wheels whose CUDA the card is to have. None: that of `cuda`, 12 or 13; where
            neither is given, as in this process.
        latency_ms: 0: a stream's work ends before the call returns. Else it starts this late, on the stream's thread.
        bus_gb_per_s: between host and card; a copy holds the thread that runs it. 0: as fast as memory is copied.
        peer: whether the cards can read each other's memory.
        memory_limit: bytes that a card hands out at most; 0: all it has.
        driver: what cudaDriverGetVersion says.
    """
    if wheel:
        runtime = runtime_version(wheel_python(wheel))
    else:
        runtime = cuda * 1000 if cuda else int(os.environ["FAKECARD_RUNTIME"])
    described = []
    for name in [card] if isinstance(card, str) else card:
        if name not in cards:
            raise KeyError(f"no card is named {name!r}; cards.toml has {', '.join(cards)}")
        described.append(",".join(f"{key}={value}" for key, value in cards[name].items()))
    return os.environ | {
        "LD_PRELOAD": str(build(runtime // 1000)),
        "FAKECARD_CARDS": ";".join(described),
        "FAKECARD_RUNTIME": str(runtime),
        "FAKECARD_DRIVER": str(driver),
        "FAKECARD_LATENCY_US": str(round(latency_ms * 1000)),
        "FAKECARD_BUS_MB_PER_S": str(round(bus_gb_per_s * 1000)),
        "FAKECARD_PEER": str(int(peer)),
        "FAKECARD_MEMORY_LIMIT": str(memory_limit),
        "PYTHONFAULTHANDLER": "1",  # Python's stack after the card's own report of a host touch
    }


def run(code: str, card: str | list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Python `code` in a new process of this interpreter under `card`; `options` as for `environment`."""
    paths = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=environment(card, **options) | paths, capture_output=True, text=True)


def restart_on(card: str, wheel: str, **variables: str) -> None:
    """The running script again, under `card` in the environment of `wheel`, unless it has a card already."""
    if here():
        return
    python = str(wheel_python(wheel))
    os.execve(python, [python, sys.argv[0]], environment(card, wheel) | variables)


def here() -> bool:
    """Whether this process has a fake card."""
    return hasattr(ctypes.CDLL(None), "fakecard_counters")


def names_here() -> list[str]:
    """What `cards` calls those that this process has, in the order of their device numbers."""
    called = {card["name"]: key for key, card in cards.items()}
    return [called[name] for name in re.findall(r"name=([^,]*)", os.environ["FAKECARD_CARDS"])]


def cards_here() -> list[dict[str, Any]]:
    """Those of `cards` that this process has, in the order of their device numbers."""
    return [cards[name] for name in names_here()]


def library() -> ctypes.CDLL:
    """The fake card of this process."""
    preloaded = ctypes.CDLL(None)
    if not here():
        raise RuntimeError('this process has no fake card: start it with pytest --card="RTX 5090" --wheel=2.4.1')
    preloaded.fakecard_counters.restype = ctypes.c_char_p
    return preloaded


def counters() -> dict[str, Any]:
    """What happened since the start or `reset`.

    Numbers: copies h2d, d2h, d2d, p2p (between cards), h2h and each with _bytes, memset, memset_bytes, allocation,
    free, host_allocation, stream_sync, event_sync, device_sync, graph_launch. Tables from name to number: launched
    (every launch), refused (no image for the card), not_emulated, queried (a kernel's attributes were asked for and
    there is no image), not_implemented (calls).
    """
    return json.loads(library().fakecard_counters())


def reset() -> None:
    """Counters to zero; no more faults; cards that an error had stopped work again."""
    library().fakecard_reset()


def fault(what: str, error: int, *, nth: int = 1, times: int = 1, match: str = "") -> None:
    """Let something fail: the `nth` time from now and `times` times in all, with the number `error`.

    Args:
        what: a call by its name ("cudaMalloc"), or "launch", "copy", "memset" whichever call it comes from.
        match: only launches of kernels whose name holds it, or copies of this direction ("d2h").
    """
    library().fakecard_fault(what.encode(), match.encode(), nth - 1, times, error)


def change(
    *,
    latency_ms: float | None = None,
    bus_gb_per_s: float | None = None,
    peer: bool | None = None,
    memory_limit: int | None = None,
) -> None:
    """Settings of `environment`, changed while the process runs."""
    values = {
        "latency_us": None if latency_ms is None else round(latency_ms * 1000),
        "bus_mb_per_s": None if bus_gb_per_s is None else round(bus_gb_per_s * 1000),
        "peer": peer,
        "memory_limit": memory_limit,
    }
    for name, value in values.items():
        if value is not None:
            library().fakecard_set(name.encode(), ctypes.c_long(value))
