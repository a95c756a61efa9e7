"""What a call of a pointwise kernel costs the host: `add` of one element on a fake card against the CPU's own.

The kernel does nothing there, so that what is timed is the dispatcher, PyTorch's iterator and the launch.
python benchmarks/card_launch.py [wheel]
"""

import ctypes
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import fakecard

if __name__ == "__main__":
    fakecard.restart_on("RTX 5090", sys.argv[1] if len(sys.argv) > 1 else "2.4.1", BLACKWELL_COMPAT_FALLBACK="silent")

import blackwell_compat as bc
import torch
from blackwell_compat import compilers, kernels
from common import RESULTS, machine

CALLS, ROUNDS = 2000, 60


def main() -> None:
    torch.set_num_threads(1)
    returns_zero = ctypes.cast(ctypes.CDLL("libm.so.6").fegetround, ctypes.c_void_p)
    fakecard.library().fakecard_register_kernel(b"compat_pointwise_add_f32", returns_zero)
    compilers.find()
    bc.enable()
    kernels.choose(torch.device("cuda", 0))
    sides = {device: [torch.zeros(1, device=device) for _ in range(3)] for device in ("cuda", "cpu")}
    taken: dict[str, list[float]] = {device: [] for device in sides}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for device, (a, b, out) in sides.items():
                start = time.perf_counter()
                for _ in range(CALLS):
                    torch.add(a, b, out=out)
                taken[device].append(1e6 * (time.perf_counter() - start) / CALLS)
                torch.cuda.synchronize()
    us = {device: statistics.median(times) for device, times in taken.items()}
    result = {
        "machine": machine(),
        "us": us,
        "beyond_the_cpu_us": us["cuda"] - us["cpu"],
        "ratio": us["cuda"] / us["cpu"],
    }
    print(json.dumps(result, indent=2))
    (RESULTS / "launch.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
