"""Plants the faults of kernel_faults.toml in csrc/kernels, one after the other; says which the emulator's tests catch.

python tools/mutate_kernels.py [words of a fault's name]    # Python 3.11 that runs tests/kernels
Of the tests those of the file's own kernels run, all of them where it has none. Each runs in a copy of the
repository without the kernels of other files that the fault is in, too, in the plain build first, then in the checked
one, which sees missing barriers. Ends with 1 where a fault is not caught.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import tomllib

ROOT = Path(__file__).parents[1]
FAULTS = Path(__file__).with_name("kernel_faults.toml")
sys.path.insert(0, str(ROOT / "tests"))

from emulator.build import KERNELS, text_of  # noqa: E402

NOTHING_CHOSEN = 5  # of pytest
NOT_THERE = "no kernel is named"  # the emulator says it
# Of kernels whose tests have another name
TESTS = {"conv1d": ["convolutions"], "gemv": ["gemm"], "nonzero": ["index"]}
TESTS |= {transform: ["analysis", "synthesis"] for transform in ("fft", "istft", "spectral", "stft")}


class Fault(NamedTuple):
    name: str
    file: str
    before: str
    after: str


def tests_of(file: str) -> list[str]:
    room = Path(file).stem.split("_")[0]
    names = TESTS.get(room, [room])
    tests = [ROOT / "tests" / "kernels" / f"test_{name}.py" for name in names]
    return [str(test.relative_to(ROOT)) for test in tests] if all(map(Path.is_file, tests)) else ["tests/kernels"]


def tested_elsewhere(file: str) -> list[str]:
    """Sources that include `file` and whose kernels other tests launch: they would be compiled for nothing."""
    others = []
    for source in sorted(KERNELS.glob("*.cu")):
        included: set[Path] = set()
        text_of(source, included)
        if KERNELS / file in included and tests_of(source.name) != tests_of(file) != ["tests/kernels"]:
            others.append(source.name)
    return others


def caught(fault: Fault, folder: Path) -> str:
    """By which build of the emulator; empty: by none."""
    for part in ("tests", "csrc/kernels"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    if (ROOT / "build" / "emulator").is_dir():  # what the fault does not touch is compiled already
        shutil.copytree(ROOT / "build" / "emulator" / "objects", folder / "build" / "emulator" / "objects")
    file = folder / "csrc" / "kernels" / fault.file
    text = file.read_text()
    if text.count(fault.before) != 1:
        sys.exit(f"{fault.name}: {fault.file} has {text.count(fault.before)} times: {fault.before}")
    file.write_text(text.replace(fault.before, fault.after))
    for other in tested_elsewhere(fault.file):
        (folder / "csrc" / "kernels" / other).unlink()
    # One generation of cards first: the others are compiled only for what it does not show
    for mode, options in (
        ("plain", ["-k", "sm_80"]),
        ("plain", []),
        ("checked", ["--checked", "-k", "sm_80"]),
        ("checked", ["--checked"]),
    ):
        pytest = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command = [sys.executable, *pytest, *options, *tests_of(fault.file)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
        if done.returncode == 1 and NOT_THERE not in done.stdout:
            return mode
        if done.returncode not in (0, NOTHING_CHOSEN):
            sys.exit(f"{fault.name}: pytest ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return ""


def main() -> int:
    faults = [Fault(**fault) for fault in tomllib.loads(FAULTS.read_text())["fault"]]
    wanted = [fault for fault in faults if all(word in fault.name for word in sys.argv[1:])]
    missed = 0
    for fault in wanted:
        with tempfile.TemporaryDirectory() as folder:
            by = caught(fault, Path(folder))
        missed += not by
        print(f"{'caught, ' + by if by else 'NOT CAUGHT':16s} {fault.name}", flush=True)
    print(f"{len(wanted) - missed} of {len(wanted)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
