"""Kernels that nvcc compiles when the package is built: what CMake says and makes, and which cards take them."""

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import blackwell_compat as bc
import pytest
from blackwell_compat import _C, compilers

ROOT = Path(__file__).parents[2]
CUDA_13_0, DRIVER = 13000, 13020
KERNELS = sorted(file.stem for file in (ROOT / "csrc" / "kernels").glob("*.cu"))
# Pointwise kernels of dtypes that models seldom compute in
MADE_ON_DEMAND = re.compile(r"compat_pointwise_\w+_(f64|i32|i16|i8|u8)")
PROJECT = f"""
cmake_minimum_required(VERSION 3.25)
project(fatbins LANGUAGES CXX)
set(KERNELS {" ".join(KERNELS)})
include("{ROOT}/cmake/fatbins.cmake")
add_library(images OBJECT "${{KERNEL_IMAGES}}")
target_include_directories(images PRIVATE "{ROOT}/csrc")
"""

needs_cmake = pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("g++"), reason="needs cmake and g++")
needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc on the PATH, of a CUDA toolkit")


def cmake(folder, *options, path=None):
    """Configures PROJECT; CMake's outcome and all it said."""
    (folder / "CMakeLists.txt").write_text(PROJECT)
    environment = {name: value for name, value in os.environ.items() if name != "CUDACXX"} | (path or {})
    done = subprocess.run(
        [shutil.which("cmake"), "-S", folder, "-B", folder / "build", "--fresh", *options],
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("architectures", "capability", "image"),
    [
        ([75, 80, 90, 120], 75, "sm_75"),
        ([75, 80, 90, 120], 80, "sm_80"),
        ([75, 80, 90, 120], 89, "sm_80"),  # machine code runs on a higher minor number
        ([80, 86, 90, 120], 89, "sm_86"),
        ([75, 80, 90, 120], 121, "sm_120"),
        ([86, 90, 120], 80, ""),  # and not on a lower one
        ([70, 90], 72, "sm_70"),
        ([70, 90], 75, ""),  # whose tensor cores launches count on
        ([75, 80, 90, 120], 61, ""),
        ([75, 80, 90, 120], 100, ""),
        ([75, 80, 90], 120, ""),  # machine code of NVRTC before PTX
        ([], 120, ""),
    ],
)
def test_which_cards_take_what_is_embedded(architectures, capability, image):
    assert _C.runtime_choose_image(architectures, CUDA_13_0, capability, DRIVER, True) == image


def test_ptx_where_no_compiler_knows_the_card():
    assert _C.runtime_choose_image([75, 90], CUDA_13_0, 120, DRIVER, False) == "compute_90"
    assert _C.runtime_choose_image([75, 90], CUDA_13_0, 90, DRIVER, False) == "sm_90"
    assert _C.runtime_choose_image([75, 90], CUDA_13_0, 61, DRIVER, False) == ""
    assert _C.runtime_choose_image([75, 90], CUDA_13_0, 87, DRIVER, False) == ""
    assert _C.runtime_choose_image([50, 75], CUDA_13_0, 75, DRIVER, False) == "sm_75"
    assert _C.runtime_choose_image([50, 75], CUDA_13_0, 120, DRIVER, False) == ""  # launches count on its tensor cores


def test_an_older_driver_takes_none():
    assert _C.runtime_choose_image([90, 120], CUDA_13_0, 120, 12090, True) == ""
    assert _C.runtime_choose_image([90, 120], CUDA_13_0, 130, 12090, False) == ""
    assert _C.runtime_choose_image([90, 120], 12090, 120, 12020, True) == "sm_120"  # the same major version


def test_doctor_says_what_is_embedded():
    found = bc.doctor()
    assert found["embedded_kernels"] == compilers.embedded()
    architectures, toolkit = _C.runtime_embedded
    expected = f"by nvcc {toolkit // 1000}." if architectures else "as text: NVRTC compiles them"
    assert expected in str(found)


@needs_cmake
def test_without_architectures_nothing_is_asked_for(tmp_path):
    code, said = cmake(tmp_path, path={"PATH": os.path.dirname(shutil.which("g++"))})
    assert code == 0, said
    assert "images{{}, 0, {}}" in (tmp_path / "build" / "kernel_images.cpp").read_text()


@needs_cmake
def test_a_compiler_that_is_none(tmp_path):
    code, said = cmake(tmp_path, "-DBLACKWELL_COMPAT_ARCHS=75;120", f"-DCMAKE_CUDA_COMPILER={sys.executable}")
    assert code == 1
    assert f"BLACKWELL_COMPAT_ARCHS=75;120 needs nvcc, and '{sys.executable}' is none. Put it on the PATH" in said
    code, said = cmake(tmp_path, "-DBLACKWELL_COMPAT_ARCHS=75;120", path={"CUDACXX": "/no/such/nvcc"})
    assert code == 1
    assert "and '/no/such/nvcc' is none" in said


@needs_cmake
@needs_nvcc
def test_an_architecture_that_nvcc_does_not_know(tmp_path):
    code, said = cmake(tmp_path, "-DBLACKWELL_COMPAT_ARCHS=90;20")
    assert code == 1
    assert "does not know sm_20; it knows sm_" in said


@needs_cmake
@needs_nvcc
def test_nvcc_takes_the_kernels(tmp_path):
    """All of them for one architecture, embedded as the package does."""
    code, said = cmake(tmp_path, "-DBLACKWELL_COMPAT_ARCHS=90", "-DBLACKWELL_COMPAT_COMPRESS=OFF")
    assert code == 0, said
    subprocess.run([shutil.which("cmake"), "--build", tmp_path / "build", "--parallel", "2"], check=True)
    (made,) = (tmp_path / "build").glob("CMakeFiles/images.dir/**/kernel_images.cpp.o")
    held = made.read_bytes()
    for name in KERNELS:
        fatbin = (tmp_path / "build" / f"{name}.fatbin").read_bytes()
        assert fatbin in held
        assert struct.unpack_from("<I", fatbin) == (0xBA55ED50,)
        assert b".target sm_90" in fatbin
    for kernel in _C.runtime_kernel_names():
        assert (b".text." + kernel.encode() in held) is not bool(MADE_ON_DEMAND.fullmatch(kernel)), kernel
