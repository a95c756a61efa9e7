"""Compile the fake card into build/fakecard, once per CUDA major and state of its sources. Needs g++, no CUDA."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
BUILDS = HERE.parents[1] / "build" / "fakecard"
FLAGS = ["-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror"]
# The preload is in every process a test starts: it brings its own C++ library and shows nothing of it
LINK = ["-shared", "-Wl,-soname,libcuda.so.1", "-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL", "-ldl"]


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def not_implemented(objects: list[Path]) -> str:
    """C++ for every name in names.txt that no object defines: it fails and says its name."""
    defined = set(re.findall(r" T (\w+)$", run("nm", "--defined-only", "--no-demangle", *objects), re.MULTILINE))
    names = re.sub("#.*", "", HERE.joinpath("names.txt").read_text()).split()
    missing = sorted(set(names) - defined)
    quoted = ", ".join(f'"{name}"' for name in missing)
    return "\n".join(
        [
            '#include "core.h"',
            *(f'FAKECARD_API int {name}() {{ return fakecard::not_implemented("{name}"); }}' for name in missing),
            "namespace fakecard {",
            "extern const char* const kNotImplementedNames[];",
            "extern const size_t kNotImplementedCount;",
            f"const char* const kNotImplementedNames[] = {{{quoted}}};",
            f"const size_t kNotImplementedCount = {len(missing)};",
            "}",
        ]
    )


def build(cuda: int) -> Path:
    """The library for programs made for CUDA `cuda` (12 or 13); compiled if it is not there yet."""
    sources = sorted(HERE.glob("src/*.cpp"))
    state = [*sources, *sorted(HERE.glob("src/*.h")), HERE / "names.txt", Path(__file__)]
    key = hashlib.sha1(b"".join(file.read_bytes() for file in state)).hexdigest()[:12]
    library = BUILDS / f"cuda{cuda}-{key}" / "libcuda.so.1"
    if library.is_file():
        return library
    BUILDS.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX", "g++")
    scratch = Path(tempfile.mkdtemp(dir=BUILDS))
    try:

        def compiled(source: Path) -> Path:
            made = scratch / f"{source.stem}.o"
            run(compiler, *FLAGS, f"-DFAKECARD_CUDA={cuda}", f"-I{HERE / 'src'}", "-c", source, "-o", made)
            return made

        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(compiled, sources))
        rest = scratch / "not_implemented.cpp"
        rest.write_text(not_implemented(objects))
        objects.append(compiled(rest))
        run(compiler, *objects, *LINK, "-o", scratch / library.name)
        library.parent.mkdir(exist_ok=True)
        os.replace(scratch / library.name, library)  # two runs may build at once; either result serves
    finally:
        shutil.rmtree(scratch)
    return library
