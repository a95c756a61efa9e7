"""Nothing that PyTorch or its own libraries call reaches the real CUDA runtime, which is still loaded."""

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
import torch

LIBRARIES = sorted(Path(torch.__file__).parent.glob("lib/*.so"))
process = ctypes.CDLL(None)


def names(file, *options):
    done = subprocess.run(["nm", "-D", *options, file], capture_output=True, text=True, check=True)
    return set(re.findall(r" [UTW] ((?:cuda|__cuda|cu[A-Z])\w+)", done.stdout))


def loaded(word):
    """The file in this process whose path holds `word`."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    (file,) = {line.split()[-1] for line in maps if word in line and "memfd" not in line}
    return file


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_every_call_of_pytorch_is_there(library):
    asked = {name for name in names(library, "--undefined-only") if not name.startswith("cuFile")}
    assert not sorted(name for name in asked if not hasattr(process, name))


def test_every_export_of_the_runtime_is_there():
    exported = names(loaded("libcudart"), "--defined-only")
    assert len(exported) > 300
    assert not sorted(exported - names(loaded("/fakecard/"), "--defined-only"))
