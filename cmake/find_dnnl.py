"""Print `library;include` of the oneDNN that the wheels brought, either part empty where it is missing.

The library is onednn-cpu-gomp (3.2, OpenMP). The headers are those of onednn-devel where it is installed (with
--no-deps: it asks for a SYCL build of the library, which would overwrite this one), else those that torch ships,
argument 1.
"""

import sys
import sysconfig
from importlib import metadata
from pathlib import Path


def folder_of(package: str, name: str) -> Path | None:
    """Where `package` installed the file `name`; pip's isolated environment is seen first, then the target's."""
    paths = sysconfig.get_paths()
    for distribution in metadata.distributions(name=package, path=[*sys.path, paths["purelib"], paths["platlib"]]):
        for file in distribution.files or []:
            if file.name == name:
                return Path(str(file.locate())).resolve().parent
    return None


library = folder_of("onednn-cpu-gomp", "libdnnl.so.3")
headers = folder_of("onednn-devel", "dnnl.hpp")
include = headers.parent.parent if headers and headers.parent.name == "oneapi" else headers
if include is None and Path(sys.argv[1], "oneapi", "dnnl", "dnnl.hpp").is_file():
    include = Path(sys.argv[1])
print(library / "libdnnl.so.3" if library else "", include or "", sep=";")
