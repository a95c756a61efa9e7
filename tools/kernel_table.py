"""Compile every CUDA kernel for every architecture with NVRTC 12.9, as the runtime does, and look into what it made.

Prints what each takes; with --write also into benchmarks/results/kernels.json and kernels.md. Ends with 1 where an
image is not machine code of its architecture, or where a kernel of sm_80 or newer keeps anything in local memory. What
was compiled before comes from the disk cache.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from blackwell_compat import _C, compilers
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

ARCHITECTURES = [50, 60, 61, 70, 75, 80, 86, 89, 90, 100, 103, 120, 121]
NO_SPILLS_FROM = 80
# CUDA's own sine and cosine of float32 keep 32 bytes of a large argument's reduction in local memory
LARGE_ARGUMENTS = re.compile(r"compat_pointwise_(sin|cos|tan|exp|pow|polar)_(f32|f16|bf16|c64)|compat_random_.*")
LARGE_ARGUMENTS_BYTES = 32
RESERVED_SHARED = 1024  # bytes that CUDA keeps for itself from sm_90 on
POINTWISE_DTYPES = ["f32", "i64", "c64", "bool"]
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
LEGEND = "registers a thread, KiB of code; +n: bytes of local memory a thread; s n: bytes of static shared memory"


class Usage(NamedTuple):
    """What one kernel takes on one architecture; everything but registers in bytes."""

    architecture: str
    registers: int
    shared: int  # static; all that our kernels use is asked for by the launch and not in here
    local: int  # a thread's stack frame and what else it keeps off the registers
    size: int

    def __str__(self) -> str:
        local = f"+{self.local}" if self.local else ""
        shared = f" s{self.shared}" if self.shared > RESERVED_SHARED else ""
        return f"{self.registers}{local}{shared} {self.size / 1024:.0f}K"


def cuobjdump() -> str:
    """NVIDIA's reader of machine code: that of the wheel, else the one on the PATH."""
    for folder in sys.path:
        for found in sorted(Path(folder or ".", "nvidia").glob("cu*/bin/cuobjdump")):
            return str(found)
    on_path = shutil.which("cuobjdump")
    if on_path is None:
        sys.exit("kernel_table: no cuobjdump; pip install 'nvidia-cuda-cuobjdump>=13.2,<14'")
    return on_path


def examine(tool: str, kernel: str, capability: int) -> Usage:
    """Compiles a kernel and asks `tool` what it became."""
    options = _C.runtime_kernel_options(f"sm_{capability}", 10 * capability)
    code = _C.runtime_compile(f"{kernel}.cu", _C.runtime_kernel_source(kernel), options, capability)
    with tempfile.NamedTemporaryFile(prefix="kernel-") as file:
        file.write(code)
        file.flush()
        images, resources = (
            subprocess.run([tool, option, file.name], check=True, capture_output=True, text=True).stdout
            for option in ("--list-elf", "--dump-resource-usage")
        )
    functions = re.findall(r"Function (\w+):\s+(REG:.*)", resources)
    if [name for name, _ in functions] != [kernel]:
        raise RuntimeError(f"{kernel} for sm_{capability}: the image holds {functions}")
    numbers = {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", functions[0][1])}
    architectures = " ".join(re.findall(r"\.(sm_\w+)\.cubin", images))
    local = numbers["STACK"] + numbers["LOCAL"]
    return Usage(architectures, numbers["REG"], numbers["SHARED"], local, len(code))


def complaints(kernel: str, capability: int, usage: Usage) -> list[str]:
    found = []
    if usage.architecture != f"sm_{capability}":
        found.append(f"{kernel} for sm_{capability}: the image is for {usage.architecture or 'nothing'}")
    allowed = LARGE_ARGUMENTS_BYTES if LARGE_ARGUMENTS.fullmatch(kernel) else 0
    if capability >= NO_SPILLS_FROM and usage.local > allowed:
        found.append(
            f"{kernel} for sm_{capability}: {usage.local} bytes of local memory beside {usage.registers} registers"
        )
    return found


def examined(names: list[str]) -> list[str]:
    """Of a pointwise op, which has a kernel for each dtype, the first of those dtypes that models compute in."""
    chosen = {}
    for name in names:
        op, _, dtype = name.rpartition("_")
        if not name.startswith("compat_pointwise_"):
            chosen[name] = (0, name)
        elif dtype in POINTWISE_DTYPES:
            chosen[op] = min(chosen.get(op, (len(POINTWISE_DTYPES), "")), (POINTWISE_DTYPES.index(dtype), name))
    return sorted(name for _, name in chosen.values())


def write(compiler: str, usages: dict[str, dict[int, Usage]]) -> None:
    """A line a kernel in both files, so that a diff shows which one changed."""
    rows = [
        f"    {json.dumps(kernel)}: {json.dumps({f'sm_{cc}': usage[1:] for cc, usage in row.items()})}"
        for kernel, row in usages.items()
    ]
    (RESULTS / "kernels.json").write_text(
        f'{{\n  "compiler": {json.dumps(compiler)},\n  "columns": {json.dumps(Usage._fields[1:])},\n  "kernels": {{\n'
        + ",\n".join(rows)
        + "\n  }\n}\n"
    )
    lines = [
        f"# What the kernels take, compiled by {compiler}",
        "",
        f"Made by `make kernel-table ARGS=--write`. In each cell: {LEGEND}.",
        "",
        "| kernel | " + " | ".join(f"sm_{cc}" for cc in ARCHITECTURES) + " |",
        "| --- |" + " ---: |" * len(ARCHITECTURES),
        *(f"| {kernel} | " + " | ".join(map(str, row.values())) + " |" for kernel, row in usages.items()),
    ]
    (RESULTS / "kernels.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"keep the table in {RESULTS.parent.name}/{RESULTS.name}")
    options = parser.parse_args()
    versions = {one["path"]: one["version"] for one in compilers.compilers()}
    for capability in ARCHITECTURES:
        path, architecture = _C.runtime_target(capability)
        if architecture != f"sm_{capability}" or versions[path] != "12.9":
            sys.exit(f"kernel_table: needs NVRTC 12.9, and {versions[path]} makes {architecture} for sm_{capability}")
    tool, console = cuobjdump(), Console()
    kernels = examined(_C.runtime_kernel_names())
    jobs = [(kernel, capability) for capability in ARCHITECTURES for kernel in kernels]
    usages: dict[str, dict[int, Usage]] = {kernel: {} for kernel in kernels}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda job: examine(tool, *job), jobs)
        for (kernel, capability), usage in zip(jobs, track(made, "Compiling", len(jobs), console=console), strict=True):
            usages[kernel][capability] = usage

    table = Table("kernel", *(f"sm_{cc}" for cc in ARCHITECTURES), box=None, padding=(0, 1, 0, 0), caption=LEGEND)
    for kernel, row in usages.items():
        cells = [Text(str(usage), style="red" if complaints(kernel, cc, usage) else "") for cc, usage in row.items()]
        table.add_row(kernel.removeprefix("compat_"), *cells)
    (console if console.is_terminal else Console(width=170)).print(table)
    if options.write:
        write("NVRTC 12.9", usages)
    wrong = [line for kernel, cc in jobs for line in complaints(kernel, cc, usages[kernel][cc])]
    for line in wrong:
        print(line)
    print(f"{len(kernels)} kernels for {len(ARCHITECTURES)} architectures, {len(wrong)} complaints")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
