"""Print `root;version;cxx11_abi` of the torch to build against, without importing it when it is only on disk.

pip builds in an isolated environment that has no torch, but runs it with the interpreter of the environment it installs
into, so `sysconfig` still names the site-packages where torch stands.
"""

import importlib.util
import re
import site
import sys
import sysconfig
from pathlib import Path


def candidates() -> list[Path]:
    spec = importlib.util.find_spec("torch")
    found = [Path(spec.origin).parent] if spec and spec.origin else []
    paths = sysconfig.get_paths()
    sites = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    return found + [Path(p) / "torch" for p in sites]


def cxx11_abi(root: Path) -> int:
    """Most wheels up to 2.6 were built with the old ABI of std::string; the constructors of c10::Error tell.

    Looking for "__cxx11" alone would not do: the old wheels hold a copy of libstdc++'s own symbols.
    """
    return int(b"_ZN3c105ErrorC1ENS_14SourceLocationESs" not in (root / "lib" / "libc10.so").read_bytes())


for root in candidates():
    version_file = root / "version.py"
    if version_file.is_file():
        match = re.search(r"^__version__ = ['\"](\d+\.\d+\.\d+)", version_file.read_text(), re.MULTILINE)
        if match:
            print(root, match.group(1), cxx11_abi(root), sep=";")
            sys.exit(0)
sys.exit(
    "blackwell_compat: torch was not found for this interpreter ("
    + sys.executable
    + "). Install torch 2.4 to 2.15 first, then: pip install --no-build-isolation ."
)
