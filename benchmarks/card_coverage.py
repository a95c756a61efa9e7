"""What serves the ops that twelve models call (aten_ops.json) in mode kernel, on a fake card: results/coverage.md.

python benchmarks/card_coverage.py [wheel] starts itself again under the torch of `make wheel-<wheel>`.
"""

import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import fakecard

if __name__ == "__main__":
    fakecard.restart_on("RTX 5090", sys.argv[1] if len(sys.argv) > 1 else "2.4.1", BLACKWELL_COMPAT_FALLBACK="silent")

import blackwell_compat as bc
import torch
from blackwell_compat import kernels

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
MEANING = {
    "kernel": "a kernel of this package",
    "own": "copies by the driver",
    "kept": "no kernel needed: views, allocation",
    "composite": "made of other ops",
    "fallback": "the CPU",
}


def lines_of_code() -> int:
    files = [*(CSRC / "aten").iterdir(), *(CSRC / "kernels").iterdir()]
    return sum(len(file.read_text().splitlines()) for file in files)


def main() -> None:
    ops: dict[str, list[str]] = json.loads((HERE / "aten_ops.json").read_text())
    bc.enable()
    kernels.choose(torch.device("cuda", 0))
    covered = bc.coverage(ops)
    taken = [op for op, by in bc.coverage().items() if by == "kernel"]
    code = lines_of_code()
    models = sorted({model for used in ops.values() for model in used})
    lines = [
        "# What serves the ops that twelve models call, in mode kernel",
        "",
        f"Made by `python benchmarks/card_coverage.py`, torch {torch.__version__}.",
        "",
        f"Of all ops of PyTorch {len(taken)} have a kernel, with their in-place and out= forms and gradients; csrc/aten"
        f" and csrc/kernels are {code} lines, {code / len(taken):.1f} for each.",
        "",
        "| served by | what that is | ops |",
        "| --- | --- | ---: |",
        *(f"| {by} | {what} | {Counter(covered.values())[by]} |" for by, what in MEANING.items()),
        "",
        "| model | " + " | ".join(MEANING) + " |",
        "| --- |" + " ---: |" * len(MEANING),
    ]
    for model in models:
        counted = Counter(by for op, by in covered.items() if model in ops[op])
        lines.append(f"| {model} | " + " | ".join(str(counted[by]) for by in MEANING) + " |")
    lines += ["", "| op | served by | models |", "| --- | --- | ---: |"]
    lines += [f"| {op.removeprefix('aten::')} | {by} | {len(ops[op])} |" for op, by in sorted(covered.items())]
    text = "\n".join(lines) + "\n"
    (HERE / "results" / "coverage.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
