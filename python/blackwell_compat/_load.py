"""Loads the extension module, and says what to install where that fails. Imported before anything that uses _C."""

from __future__ import annotations

import ctypes
import importlib
from importlib import metadata

import torch  # its libraries have to be loaded before _C


def _preload_dnnl() -> bool:
    """Load the libdnnl of the wheel from wherever it was installed; the linker then takes that one for _C."""
    try:
        files = metadata.files("onednn-cpu-gomp") or []
    except metadata.PackageNotFoundError:
        return False
    for file in files:
        if file.name == "libdnnl.so.3":
            try:
                ctypes.CDLL(str(file.locate()))
            except OSError:
                return False
            return True
    return False


def load() -> None:
    """Import blackwell_compat._C.

    Raises:
        ImportError: oneDNN is missing, or _C was built for another torch; the message says what to install.
    """
    try:
        importlib.import_module("blackwell_compat._C")
        return
    except ImportError as error:
        first = error
    # RPATH finds libdnnl beside the package; not where the two were installed into different folders
    if "dnnl" in str(first) and _preload_dnnl():
        try:
            importlib.import_module("blackwell_compat._C")
            return
        except ImportError as error:
            first = error
    if "dnnl" in str(first):
        reason = (
            "oneDNN 3.2 or newer (libdnnl.so.3) was not found. "
            "Install it: pip install --force-reinstall 'onednn-cpu-gomp>=2023.2,<2024'"
        )
    elif "undefined symbol" in str(first) or isinstance(first, ModuleNotFoundError):
        reason = (
            f"the extension was not built for this Python and torch {torch.__version__}. "
            "Build it again, from its source folder: pip install --force-reinstall --no-deps ."
        )
    else:
        raise first
    raise ImportError(f"blackwell_compat: {reason} ({first})") from first


load()
