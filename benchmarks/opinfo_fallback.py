"""PyTorch's own suite through the fallback: how much of it is clean, and the cause of what is not.

python benchmarks/opinfo_fallback.py 2.4.1 "RTX 5090" [dtype ...] runs it with 8 samples an entry under the torch of
`make wheel-2.4.1` and adds what it found to results/opinfo-fallback.json, from which it writes opinfo-fallback.md.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "card"))
import fakecard

RESULTS = Path(__file__).parent / "results" / "opinfo-fallback.json"
DTYPES = ("float32", "bfloat16", "float16", "int64", "bool", "complex64")
SAMPLES = 8


def examine(name):
    """Of all entries of dtype `name`: what was run, and what differs and why."""
    import blackwell_compat as bc
    import opinfo_on_card
    import torch

    dtype = getattr(torch, name)
    bc.enable()
    started, samples, failed = time.time(), 0, {}
    ops = opinfo_on_card.ops_with(dtype)
    for op in ops:
        fakecard.reset()
        try:
            samples += opinfo_on_card.check(op, dtype, SAMPLES)
        except Exception as error:
            cause = opinfo_on_card.known(op, dtype) or "NOT EXPLAINED"
            failed[op] = {"cause": cause, "error": " ".join(str(error).split())[:200]}
    return {
        "torch": torch.__version__,
        "card": torch.cuda.get_device_name(),
        "dtype": name,
        "entries": len(ops),
        "samples": samples,
        "failed": failed,
        "seconds": round(time.time() - started),
    }


def table(found):
    lines = [
        "# PyTorch's own suite (OpInfo) through the fallback",
        "",
        f"Made by `benchmarks/{Path(__file__).name}` on the fake card: every entry of `op_db`, up to {SAMPLES}",
        "samples: forward, backward, in-place, out= (three kinds), aliasing and strides, compared to the CPU. An",
        "entry is clean when all of that agrees and no kernel of PyTorch was started.",
        "",
        "| torch | card | dtype | entries | samples | clean | share | not clean |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    causes = {}
    for row in sorted(
        found.values(), key=lambda row: ([int(n) for n in row["wheel"].split(".")], DTYPES.index(row["dtype"]))
    ):
        clean = row["entries"] - len(row["failed"])
        names = ", ".join(f"`{op}`" for op in row["failed"])
        lines.append(
            f"| {row['torch']} | {row['card']} | {row['dtype']} | {row['entries']} | {row['samples']} | {clean} | "
            f"{clean / row['entries']:.2%} | {names} |"
        )
        for op, failure in row["failed"].items():
            causes.setdefault((op, failure["cause"]), []).append(f"{row['wheel']} {row['dtype']}")
    lines += ["", "| entry | where | cause |", "| --- | --- | --- |"]
    lines += [f"| `{op}` | {', '.join(where)} | {cause} |" for (op, cause), where in sorted(causes.items())]
    return "\n".join(lines) + "\n"


def main(wheel, card, dtypes):
    for name in dtypes:
        environment = fakecard.environment(card, wheel) | {"BLACKWELL_COMPAT_FALLBACK": "silent"}
        command = [str(fakecard.wheel_python(wheel)), "-W", "ignore", __file__, "--examine", name]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{wheel} {name}: ended with {done.returncode}")
        row = json.loads(done.stdout.splitlines()[-1]) | {"wheel": wheel}
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[f"{wheel} {name}"] = row
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(table(found))
        print(
            f"{wheel} {name}: {len(row['failed'])} of {row['entries']} not clean: {', '.join(row['failed'])}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1] == "--examine":
        print(json.dumps(examine(sys.argv[2])))
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3:] or DTYPES)
