"""Compile kernels and the emulator into build/emulator, once per state of the sources. Needs g++, no CUDA."""

import hashlib
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILDS = ROOT / "build" / "emulator"
KERNELS = ROOT / "csrc" / "kernels"
# -fno-strict-aliasing: kernels read a row of one type through pointers of another, as nvcc lets them.
# -ffp-contract=off: the same values on every machine
FLAGS = [
    *("-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror"),
    *("-fno-strict-aliasing", "-ffp-contract=off", f"-ffile-prefix-map={ROOT}/=", f"-fdebug-prefix-map={ROOT}=."),
]
KERNEL_FLAGS = [
    *("-xc++", "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-Wno-unknown-pragmas"),
    *("-include", "emulator/builtins.h"),
]
LINK = ["-shared", "-pthread", "-static-libstdc++", "-static-libgcc", "-Wl,-z,defs", "-Wl,--exclude-libs,ALL", "-ldl"]
# Without libtsan and libubsan: src/check.cpp is what the instrumentation calls. No access is merged into a wider one
CHECKED = ["-DEMULATOR_CHECKED"]
CHECKED_KERNEL = ["-fsanitize=thread,alignment", "-fno-tree-vectorize", "-fno-tree-slp-vectorize"]
PROCESSES = 2
# What is not the same on every generation of cards; a source without any of it is compiled once
OF_A_GENERATION = re.compile(r"kArchitecture|__CUDA_ARCH__ *[<>=]|multiply_\d|load_matrices|async_|tf32")
ANY_GENERATION = 1200


def run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{done.stdout}{done.stderr}{' '.join(map(str, command))}")


def key_of(*parts: object) -> str:
    digest = hashlib.sha1()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else repr(part).encode()
        digest.update(hashlib.sha1(data).digest())
    return digest.hexdigest()[:16]


def made(target: Path, *command: object) -> Path:
    """`target`, by `command -o` if it is not there yet. Two processes may build at once; either result serves."""
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILDS) as scratch:
            result = Path(scratch) / target.name
            run(*command, "-o", result)
            os.replace(result, target)
    return target


def text_of(source: Path, seen: set[Path]) -> str:
    """A kernel's source with all of kernels/ that it includes, but for the platform."""
    if source in seen or source.name == "platform.cuh":
        return ""
    seen.add(source)
    text = source.read_text()
    included = (text_of(KERNELS / name, seen) for name in re.findall(r'#include "kernels/(\S+)"', text))
    return "".join([text, *included])


def build(arch: int, checked: bool = False, sources: Path = KERNELS) -> Path:
    """The library with every .cu of `sources`, compiled for `__CUDA_ARCH__` `arch` (750, 1200).

    Args:
        checked: with a record of every access to memory: races, reads of what nobody wrote, accesses out of bounds.
    """
    compiler, sources = os.environ.get("CXX", "g++"), sources.resolve()
    own = sorted(HERE.glob("include/**/*.[hc]*"))
    flags = [*FLAGS, *(CHECKED if checked else [])]
    kernel_flags = [*flags, *KERNEL_FLAGS, *(CHECKED_KERNEL if checked else [])]
    includes = [f"-I{HERE / 'include'}", f"-I{ROOT / 'csrc'}"]
    runtime = sorted(HERE.glob("src/*.cpp"))
    runtime_key = key_of(compiler, flags, *own, *sorted(HERE.glob("src/*.h")), Path(__file__))
    kernel_key = key_of(compiler, kernel_flags, *own, KERNELS / "platform.cuh", Path(__file__))
    others = [] if sources == KERNELS else sorted({*KERNELS.glob("*.cuh"), *sources.glob("*.cuh")})

    def compiled(source: Path) -> Path:
        if source.parent == HERE / "src":
            key, own_flags = key_of(runtime_key, source), [*flags, "-O3"]
        else:
            text = text_of(source, set())
            alike = sources == KERNELS and not OF_A_GENERATION.search(text)
            generation = ANY_GENERATION if alike else arch
            key = key_of(kernel_key, generation, text, *others)
            own_flags = [*kernel_flags, f"-D__CUDA_ARCH__={generation}"]
        return made(BUILDS / "objects" / f"{source.stem}-{key}.o", compiler, *own_flags, *includes, "-c", source)

    with ThreadPoolExecutor(PROCESSES) as pool:
        objects = list(pool.map(compiled, [*runtime, *sorted(sources.glob("*.cu"))]))
    mode = "checked" if checked else "plain"
    library = BUILDS / f"{arch}-{mode}-{key_of([it.name for it in objects])}" / "libemulator.so"
    return made(library, compiler, *objects, *LINK)
