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
    done = subprocess.run(
        command, env={**os.environ, **PATHS[request.param]}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return request.param, torch.load(file)


LENGTHS = """
import torch, blackwell_compat as bc
torch.set_num_threads(1)
for dtype in (torch.bfloat16, torch.float16):
    for c_in, c_out, k in ((70, 64, 1), (192, 192, 1), (34, 40, 5), (64, 64, 3), (48, 20, 7)):
        w = torch.randn(c_out, c_in, k, dtype=dtype)
        for length in (1, 16, 33, 64, 100, 129, 300, 320, 700, 2048):
            bc.compat_conv1d(torch.randn(1, c_in, length + k - 1, dtype=dtype), w)
            bc.compat_linear(torch.randn(length, c_in, dtype=dtype), w[..., 0])
"""


def test_no_length_falls_to_a_reference_kernel_of_onednn():
    """Those are a thousand times slower. Where this CPU has no half precision, oneDNN computes nothing here."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", LENGTHS], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    computed = [line.split(",") for line in done.stdout.splitlines() if ",exec,cpu,convolution," in line]
    computed += [line.split(",") for line in done.stdout.splitlines() if ",exec,cpu,matmul," in line]
    assert bool(computed) == any(name != "Float" for of, name in _C.cpu_dtypes().items() if of != "Float")
    assert not [line for line in computed if any("ref" in field for field in line[:6])]


@pytest.mark.parametrize("dtype", cpu_cases.DTYPES, ids=str)
@pytest.mark.parametrize("number", range(len(cpu_cases.CASES)), ids=lambda n: "-".join(map(str, cpu_cases.CASES[n])))
def test_accuracy(path, number, dtype):
    case = cpu_cases.CASES[number]
    args, kwargs = cpu_cases.arguments(case, dtype)
    want = cpu_cases.composed(case[0], *(a.double() for a in args), **kwargs)
    got = path[1]["results"][number, dtype]
    reference.assert_as_accurate(got, cpu_cases.composed(case[0], *args, **kwargs), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", cpu_cases.TRANSFORMS, ids=str)
def test_accuracy_of_transforms(path, sizes, dtype):
    x = cpu_cases.signal(sizes[0], dtype)
    peers = cpu_cases.round_trip(torch.stft, torch.istft, x, *sizes)
    want = cpu_cases.round_trip(torch.stft, torch.istft, x.double(), *sizes)
    for got, peer, value in zip(path[1]["results"][sizes, dtype], peers, want, strict=True):
        reference.assert_as_accurate(got, peer, value)


def test_choice(path):
    name, said = path
    isa = PATHS[name].get("BLACKWELL_COMPAT_CPU_ISA")
    ladder = ["generic", "avx2", "avx512"]
    assert said["isa"] == (min(isa, _C.cpu_isa, key=ladder.index) if isa else _C.cpu_isa)
    if "ONEDNN_MAX_CPU_ISA" in PATHS[name]:
        assert said["dtypes"] == {"Float": "Float", "BFloat16": "Float", "Half": "Float"}
    else:
        assert said["dtypes"] == _C.cpu_dtypes()
