"""How long the kernels that Kokoro launches take from embedded machine code to loaded, on a fake card, the disk empty.

Needs a build that holds them: make wheel-2.4.1, then in that environment
pip install --no-build-isolation --no-deps --force-reinstall -C cmake.define.BLACKWELL_COMPAT_ARCHS=120 \
    -C cmake.define.BLACKWELL_COMPAT_COMPRESS=OFF .
The fake driver reads the images, which it cannot decompress, and finds the kernels in them; that of a card also copies
the code there. Kernels that no build holds are compiled, and counted.
python benchmarks/card_embedded.py [wheel]
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import fakecard

if __name__ == "__main__":
    fakecard.restart_on("RTX 5090", sys.argv[1] if len(sys.argv) > 1 else "2.4.1", BLACKWELL_COMPAT_FALLBACK="silent")

import blackwell_compat as bc
from bench_compile import KOKORO
from blackwell_compat import compilers, kernels
from common import RESULTS, machine

BAR_MS = 500


def main() -> None:
    if not compilers.embedded():
        print("embedded: this build holds no machine code; see the first lines of this file")
        return
    compilers.find()
    bc.enable()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BLACKWELL_COMPAT_CACHE_DIR"] = folder
        start = time.perf_counter()
        count = kernels._load(KOKORO, 0)
        ms = 1e3 * (time.perf_counter() - start)
        compiled = sum(file.is_file() for file in Path(folder).rglob("*"))
    found = {"machine": machine(), "kernels": count, "compiled": compiled, "ms": ms}
    print(f"embedded: {count} kernels in {ms:.0f} ms, {compiled} of them compiled; bar {BAR_MS} ms")
    (RESULTS / "embedded.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
