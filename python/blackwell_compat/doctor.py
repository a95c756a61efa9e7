"""What machine and wheel this is, and what this package will use there."""

from __future__ import annotations

import functools
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from blackwell_compat import _C, compilers

ISA_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")


def stats() -> dict[str, int]:
    """Counters of the caches since the process started.

    Returns:
        packs, pack_bytes, pack_capacity: packed weights held on the CPU now, their bytes, and the bytes they may take.
        packs_made, packs_reused, packs_refused: how often a weight was packed, found packed, or left as it was.
        card_packs, card_pack_bytes, card_pack_capacity, card_packs_made, card_packs_reused, card_packs_refused: the
            same for weights of convolutions on all cards, in mode kernel; refused ones are packed at each call.
        primitives, primitives_created, primitive_capacity: oneDNN primitives held, ever created, and held at most.
    """
    return dict(_C.stats())


def runs_on(archs: list[str], capability: tuple[int, int]) -> bool:
    """Whether one of `archs`, written as torch.cuda.get_arch_list() does, runs on a card of compute `capability`.

    Machine code (sm_) runs on the same major and an equal or higher minor number, PTX (compute_) on any later card;
    with the suffix "a" either runs on its own architecture only, with "f" on the same major number.
    """
    for arch in archs:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if match is None:
            continue
        built = int(match[2]), int(match[3])
        if match[4] == "a":
            fits = built == capability
        elif match[1] == "sm" or match[4] == "f":
            fits = built[0] == capability[0] and built[1] <= capability[1]
        else:
            fits = built <= capability
        if fits:
            return True
    return False


def _cpu_line(key: str) -> str | None:
    info = Path("/proc/cpuinfo")
    found = re.search(rf"^{key}\s*:\s*(.+)$", info.read_text() if info.is_file() else "", re.MULTILINE)
    return found[1] if found else None


@functools.cache
def cpu_isa() -> tuple[str, ...]:
    """Those of ISA_FLAGS that the CPU has."""
    have = (_cpu_line("flags") or "").split()
    return tuple(flag for flag in ISA_FLAGS if flag in have)


def _cpu() -> dict[str, Any]:
    return {
        "model": _cpu_line("model name") or platform.processor() or platform.machine(),
        "isa": list(cpu_isa()),
        "threads": torch.get_num_threads(),
        "kernels": _C.cpu_isa,
    }


def _driver() -> str | None:
    for file, pattern in (
        ("/sys/module/nvidia/version", r"(\S+)"),
        ("/proc/driver/nvidia/version", r" (\d+\.\d[\d.]*) "),
    ):
        try:
            match = re.search(pattern, Path(file).read_text())
        except OSError:
            continue
        if match:
            return match[1]
    return None


def _cuda_devices(archs: list[str]) -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        devices.append(
            {
                "name": torch.cuda.get_device_name(index),
                "capability": f"{capability[0]}.{capability[1]}",
                "wheel_has_kernels": runs_on(archs, capability),
                "kernels_compile_to": compilers.target(capability),
            }
        )
    return devices


def openmp_runtimes() -> list[str]:
    """Files of the OpenMP runtimes in this process; empty where /proc is missing."""
    maps = Path("/proc/self/maps")
    text = maps.read_text() if maps.is_file() else ""
    return sorted(set(re.findall(r"(/\S*/lib(?:gomp|iomp5|omp)\b[^/\s]*)$", text, re.MULTILINE)))


class Doctor(dict[str, Any]):
    """The findings, as a dict that JSON takes; str() gives the table."""

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        torch_, cpu, openmp = self["torch"], self["cpu"], self["openmp"]
        onednn = self["onednn"]
        rows = [
            ("blackwell_compat", self["version"]),
            ("Python", f"{self['python']} on {self['platform']}"),
            ("CPU", f"{cpu['model']}, {cpu['threads']} threads; {' '.join(cpu['isa']) or 'no AVX2'}"),
            ("torch", torch_["version"] + (f", CUDA {torch_['cuda']}" if torch_["cuda"] else ", no CUDA")),
        ]
        if torch_["archs"]:
            rows.append(("  its kernels are for", " ".join(torch_["archs"])))
        for device in self["cuda_devices"]:
            fits = "the wheel has kernels for it" if device["wheel_has_kernels"] else "the wheel has NO kernels for it"
            rows.append(("GPU", f"{device['name']}, compute capability {device['capability']}: {fits}"))
            rows.append(("  a kernel of ours is", device["kernels_compile_to"]))
        if not self["cuda_devices"]:
            rows.append(("GPU", "none that torch can use"))
        if self["driver"]:
            rows.append(("NVIDIA driver", self["driver"]))
        built = self["embedded_kernels"]
        if built:
            of = " ".join(f"sm_{arch}" for arch in built["architectures"])
            rows.append(("kernels in this build", f"{of} and newer, by {built['compiler']}"))
        else:
            rows.append(("kernels in this build", "as text: NVRTC compiles them"))
        for one in self["compilers"]:
            rows.append((f"NVRTC {one['version']}", one["path"]))
        rows.append(("compiled kernels are kept in", self["kernel_cache"] or "no folder: each process compiles"))
        rows.append(("float32 kernels", f"ours, {cpu['kernels']}"))
        rows.append(("oneDNN, for half precision", onednn or "not in this build: computed in float32"))
        for dtype, computed in self["cpu_dtypes"].items():
            rows.append((f"  {dtype} is computed in", computed))
        rows.append(("OpenMP", "\n".join(openmp) or "none loaded"))
        used = self["stats"]
        if used:
            rows.append(
                (
                    "packed weights",
                    f"{used['packs']} ({used['pack_bytes'] / 2**20:.1f} MiB of at most "
                    f"{used['pack_capacity'] / 2**20:.0f}), made {used['packs_made']}, "
                    f"reused {used['packs_reused']}, refused {used['packs_refused']}",
                )
            )
        if used["card_packs_made"]:
            rows.append(
                (
                    "  on cards",
                    f"{used['card_packs']} ({used['card_pack_bytes'] / 2**20:.1f} MiB of at most "
                    f"{used['card_pack_capacity'] / 2**20:.0f}), made {used['card_packs_made']}, "
                    f"reused {used['card_packs_reused']}, refused {used['card_packs_refused']}",
                )
            )
        if "primitives" in used:
            rows.append(
                (
                    "primitives",
                    f"{used['primitives']} of at most {used['primitive_capacity']}, "
                    f"created {used['primitives_created']}",
                )
            )
        table = Table(show_header=False, title="blackwell_compat doctor", title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(Text(name), Text(value))
        for warning in self["warnings"]:
            table.add_row(Text("warning", style="bold yellow"), Text(warning))
        console = Console()
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip("\n")

    __repr__ = __str__


def doctor() -> Doctor:
    """Look at the machine, the torch wheel and this package.

    Returns:
        a dict with the keys version, python, platform, cpu, torch, cuda_devices, driver, compilers (NVRTC: path,
        version, architectures), embedded_kernels (architectures and compiler, or None where NVRTC compiles all),
        kernel_cache (a folder, or ""), onednn (version, or None in a build without it), cpu_dtypes (dtype -> what this
        CPU computes it in), openmp (files), stats (see `stats`) and warnings. Printed, it is a table.
    """
    archs = torch.cuda.get_arch_list() if torch.cuda.is_available() else []
    if not archs and hasattr(torch._C, "_cuda_getArchFlags"):
        archs = (torch._C._cuda_getArchFlags() or "").split()  # a CUDA wheel on a machine without a driver
    openmp = openmp_runtimes()
    devices = _cuda_devices(archs)
    warnings = []
    if len(openmp) > 1:
        warnings.append(
            f"{len(openmp)} OpenMP runtimes are loaded and compete for the cores; "
            "`pip install --force-reinstall --no-deps` this package against the torch in use, or import torch first"
        )
    warnings += [
        f"this torch has no kernels for {device['name']}; CUDA tensors fail with 'no kernel image is available'"
        for device in devices
        if not device["wheel_has_kernels"]
    ]
    return Doctor(
        version=metadata.version("blackwell_compat"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}" if sys.platform != "win32" else platform.platform(),
        cpu=_cpu(),
        torch={"version": torch.__version__, "cuda": torch.version.cuda, "archs": archs},
        cuda_devices=devices,
        driver=_driver(),
        compilers=compilers.compilers(),
        embedded_kernels=compilers.embedded(),
        kernel_cache=_C.runtime_cache_folder(),
        onednn=_C.onednn_version,
        cpu_dtypes=dict(_C.cpu_dtypes()),
        openmp=openmp,
        stats=stats(),
        warnings=warnings,
    )
