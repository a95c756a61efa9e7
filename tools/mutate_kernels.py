"""Plants the faults of kernel_faults.toml in csrc/kernels, one after the other; says which the emulator's tests catch.

python tools/mutate_kernels.py [words of a fault's name]    # Python 3.11 that runs tests/kernels
Of the tests those that launch the file's own kernels run, all of them where it has none.
Ends with 1 where a fault is not caught. Each runs in a copy of the repository, in the plain build first, then in the
checked one, which sees missing barriers.
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


class Fault(NamedTuple):
    name: str
    file: str
    before: str
    after: str


def tests_of(file: str) -> list[str]:
    room = Path(file).stem.split("_")[0]
    tests = sorted((ROOT / "tests" / "kernels").glob("test_*.py"))
    named = [test for test in tests if test.stem == f"test_{room}"]
    found = named or [test for test in tests if f"compat_{room}_" in test.read_text()]
    return [str(test.relative_to(ROOT)) for test in found] or ["tests/kernels"]


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
    for mode in ("plain", "checked"):
        options = ["--checked"] if mode == "checked" else []
        pytest = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command = [sys.executable, *pytest, *options, *tests_of(fault.file)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
        if done.returncode == 1:
            return mode
        if done.returncode != 0:
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
