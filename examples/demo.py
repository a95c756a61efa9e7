"""make demo: the main job on real input. What machine this is; then embeddings, sound and speech, before and after."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import blackwell_compat as bc
import torch
from rich import print
from rich.console import Console
from rich.rule import Rule

OUT = Path("demo-output")


def what_will_be_used() -> str:
    """The mode that patch_model picks by itself for a model on each device."""
    lines = []
    for device in ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]:
        mode = bc.patch_model(torch.nn.Linear(8, 8).to(device), dry_run=True).mode
        lines.append(f"a model on {device} will run in mode [bold]{mode}[/bold]")
    return "\n".join(lines)


def main() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)  # between transformers and torch
    start = time.perf_counter()
    print(Rule("1. This machine, this wheel"))
    print(str(bc.doctor()))
    print(what_will_be_used())
    with Console().status("importing transformers"):
        import denoise
        import embeddings
        import tts
    print(Rule("2. Sentences to vectors"))
    embeddings.main()
    print(Rule("3. Noise out of speech"))
    denoise.main(OUT)
    print(Rule("4. Text to sound"))
    tts.main(OUT)
    print(Rule())
    print(f"done in {time.perf_counter() - start:.0f} s; sound and pictures are in {OUT.resolve()}:")
    print("  " + ", ".join(sorted(file.name for file in OUT.iterdir())))


if __name__ == "__main__":
    main()
