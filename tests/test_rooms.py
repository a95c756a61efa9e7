"""One op, one room: every registered op has its files, and each stands where the tree in the README says."""

from pathlib import Path

import blackwell_compat  # noqa: F401  (registers the ops)
import pytest
import torch

ROOT = Path(__file__).parents[1]


def rooms() -> list[str]:
    names = torch._C._dispatch_get_all_op_names()
    ops = {name.split("::")[1].split(".")[0] for name in names if name.startswith("blackwell_compat::")}
    for suffix in ("_backward", "_packed", "_pack", "_unpack", "_window"):
        ops = {op.removesuffix(suffix) for op in ops}
    return sorted({op.removeprefix("compat_").removesuffix("_fp32") for op in ops})


def test_the_rooms_of_the_main_job_are_there():
    assert {"linear", "conv1d", "conv_transpose1d", "stft", "istft"} <= set(rooms())


@pytest.mark.parametrize("room", rooms())
def test_room_is_complete(room):
    wanted = [
        f"csrc/ops/{room}/{room}.cpp",
        f"python/blackwell_compat/ops/{room}.py",
        f"tests/ops/test_{room}.py",
        f"benchmarks/bench_{room}.py",
    ]
    missing = [file for file in wanted if not (ROOT / file).is_file()]
    assert not missing, f"the room {room} lacks {missing}"
