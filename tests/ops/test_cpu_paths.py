"""Instruction sets that this CPU has but does not choose: each in a process of its own, told by the environment."""

import os
import subprocess
import sys
from pathlib import Path

import cpu_cases
import pytest
import reference
import torch

from blackwell_compat import _C

PATHS = {
    "default": {},
    "avx2": {"BLACKWELL_COMPAT_CPU_ISA": "avx2"},
    "generic": {"BLACKWELL_COMPAT_CPU_ISA": "generic"},
    "onednn avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "onednn avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "all low": {"ONEDNN_MAX_CPU_ISA": "SSE41", "BLACKWELL_COMPAT_CPU_ISA": "generic", "ATEN_CPU_CAPABILITY": "default"},
}


@pytest.fixture(scope="module", params=PATHS)
def path(request, tmp_path_factory):
    """(name, what cpu_cases.py computed)"""
    file = tmp_path_factory.mktemp("paths") / "results.pt"
    command = [sys.executable, str(Path(cpu_cases.__file__)), str(file)]
    done = subprocess.run(command, env={**os.environ, **PATHS[request.param]}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, torch.load(file)


@pytest.mark.parametrize("dtype", cpu_cases.DTYPES, ids=str)
@pytest.mark.parametrize("number", range(len(cpu_cases.CASES)), ids=lambda n: "-".join(map(str, cpu_cases.CASES[n])))
def test_accuracy(path, number, dtype):
    case = cpu_cases.CASES[number]
    args, kwargs = cpu_cases.arguments(case, dtype)
    want = cpu_cases.composed(case[0], *(a.double() for a in args), **kwargs)
    got = path[1]["results"][number, dtype]
    reference.assert_as_accurate(got, cpu_cases.composed(case[0], *args, **kwargs), want)


def test_choice(path):
    name, said = path
    isa = PATHS[name].get("BLACKWELL_COMPAT_CPU_ISA")
    ladder = ["generic", "avx2", "avx512"]
    assert said["isa"] == (min(isa, _C.cpu_isa, key=ladder.index) if isa else _C.cpu_isa)
    if "ONEDNN_MAX_CPU_ISA" in PATHS[name]:
        assert said["dtypes"] == {"Float": "Float", "BFloat16": "Float", "Half": "Float"}
    else:
        assert said["dtypes"] == _C.cpu_dtypes()
