"""What the built extension links, and what importing the package costs."""

import re
import subprocess
import sys
from pathlib import Path

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat import _C, doctor

ROOT = Path(__file__).parents[1]
BINARY = Path(_C.__file__)
needs_onednn = pytest.mark.skipif(
    _C.onednn_version is None, reason="built without oneDNN (BLACKWELL_COMPAT_ONEDNN=OFF)"
)


def run(*command: object) -> str:
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def python(code: str, *options: str) -> str:
    """Runs `code` in a new process; a failure shows what it wrote."""
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dynamic_section(tag: str) -> list[str]:
    return re.findall(rf"\({tag}\).*\[(.*)\]", run("readelf", "--dynamic", "--wide", BINARY))


def test_links_no_cuda_library():
    needed = dynamic_section("NEEDED")
    assert any(name.startswith("libtorch_cpu") for name in needed), needed
    cuda = [
        name for name in needed if re.match(r"lib(cuda|cudart|nvrtc|nvJitLink|cublas|cudnn|torch_cuda|c10_cuda)", name)
    ]
    assert not cuda, f"{BINARY.name} needs {cuda}"


@needs_onednn
def test_libdnnl_is_found_through_rpath():
    (name,) = (name for name in dynamic_section("NEEDED") if "dnnl" in name)
    folders = [f for tag in ("RPATH", "RUNPATH") for value in dynamic_section(tag) for f in value.split(":")]
    files = [Path(folder.replace("$ORIGIN", str(BINARY.parent)), name) for folder in folders]
    assert any(file.is_file() for file in files), files


@needs_onednn
def test_loaded_libdnnl_exports_every_symbol_used():
    loaded = re.search(r"(/\S*libdnnl[^/\s]*)$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert loaded, "no libdnnl in this process"
    used = set(re.findall(r" U (dnnl_\w+)", run("nm", "--dynamic", "--undefined-only", BINARY)))
    exported = set(re.findall(r" T (dnnl_\w+)", run("nm", "--dynamic", "--defined-only", loaded[1])))
    assert used
    assert used <= exported, f"{loaded[1]} lacks {sorted(used - exported)}"


def test_cmake_does_not_ask_for_torch_config():
    for file in [ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")]:
        code = re.sub(r"#.*", "", file.read_text())
        assert not re.search(r"find_package\s*\(\s*torch", code, re.IGNORECASE), file


def test_one_openmp_runtime():
    """torch's own; a second one would run its threads beside torch's."""
    seen = python(
        "import torch, blackwell_compat as bc\n"
        "from blackwell_compat.doctor import openmp_runtimes\n"
        "x = torch.randn(64, 256)\n"
        "bc.compat_linear(x, torch.randn(512, 256)); torch.nn.functional.linear(x, torch.randn(512, 256))\n"
        "print(*openmp_runtimes(), sep='\\n')"
    ).split()
    assert len(seen) == 1, seen


def test_import_time_beyond_torch():
    code = (
        "import time, torch; start = time.perf_counter(); import blackwell_compat\nprint(time.perf_counter() - start)"
    )
    seconds = min(float(python(code)) for _ in range(3))
    assert seconds < 0.3, f"import blackwell_compat takes {seconds:.2f} s after torch"


def test_import_is_free_of_warnings():
    python("import torch, warnings; warnings.simplefilter('error'); import blackwell_compat")


def test_import_leaves_heavy_modules_alone():
    loaded = python(
        "import sys, torch; before = set(sys.modules); import blackwell_compat\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    ).split()
    assert not {"rich", "transformers", "matplotlib"} & set(loaded), loaded


@needs_onednn
def test_finds_libdnnl_in_another_folder(tmp_path):
    """RPATH leads nowhere when the package is imported from elsewhere (pip install --target): _load.py then looks."""
    copy = tmp_path / "blackwell_compat"
    run("cp", "-r", BINARY.parent, copy)
    if list(copy.glob("libdnnl*")):
        pytest.skip("this torch has its own libgomp: libdnnl is inside the package")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import blackwell_compat; print(blackwell_compat.__file__)"
    )
    assert python(code).strip() == str(copy / "__init__.py")
    missing = f"from importlib import metadata; metadata.files = lambda name: []; {code}"
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True)
    assert "ImportError: blackwell_compat: oneDNN 3.2 or newer (libdnnl.so.3) was not found" in done.stderr
    assert "pip install --force-reinstall 'onednn-cpu-gomp" in done.stderr


def test_doctor_tells_the_machine():
    found = doctor()
    assert found["torch"]["version"] == torch.__version__
    assert found["onednn"] == _C.onednn_version
    assert set(found["cpu"]) == {"model", "isa", "threads", "kernels"}
    assert found["stats"].keys() == bc.stats().keys()
    table = str(found)
    assert torch.__version__ in table
    assert (_C.onednn_version or "not in this build") in table
    assert f"ours, {_C.cpu_isa}" in table
    run(sys.executable, "-m", "blackwell_compat", "--json")


def test_doctor_names_the_card_without_kernels(monkeypatch):
    """An RTX 5090 under the wheel of torch 2.4.1, played by a few functions."""
    old_wheel = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
    for name, value in {
        "device_count": 1,
        "get_device_capability": (12, 0),
        "get_device_name": "NVIDIA GeForce RTX 5090",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: old_wheel)
    found = doctor()
    (card,) = found["cuda_devices"]
    assert (card["name"], card["capability"], card["wheel_has_kernels"]) == ("NVIDIA GeForce RTX 5090", "12.0", False)
    assert "sm_120 by NVRTC" in card["kernels_compile_to"] or "pip install" in card["kernels_compile_to"]
    assert "no kernels for NVIDIA GeForce RTX 5090" in found["warnings"][-1]
    assert "NO kernels" in str(found)


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        (["sm_60"], (6, 1), True),  # TITAN Xp on the wheels up to 2.7
        (["sm_75", "sm_120"], (6, 1), False),
        (["sm_120"], (12, 1), True),  # GB10
        (["sm_90"], (12, 0), False),
        (["sm_90", "compute_90"], (12, 0), True),
        (["sm_90a", "compute_90a"], (12, 0), False),
        (["sm_86"], (8, 0), False),
        (["sm_100f"], (10, 3), True),
        ([], (9, 0), False),
    ],
)
def test_binary_compatibility_rule(archs, capability, runs):
    from blackwell_compat.doctor import runs_on

    assert runs_on(archs, capability) is runs
