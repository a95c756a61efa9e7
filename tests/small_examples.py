"""The scripts in examples/ at a size that an emulated card has done in seconds."""

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "examples"


def llm(example):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 100}
    return {"SMALL": example.SMALL | sizes}, ["--tokens=4"]


def kokoro_old_card(example):
    config = example.CONFIG
    bert = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
    blocks = {"resblock_dilation_sizes": [[1, 3, 5]], "resblock_kernel_sizes": [3]}
    smaller = {"dim_in": 16, "max_conv_dim": 32, "n_layer": 2}
    nested = {"plbert": config["plbert"] | bert, "istftnet": config["istftnet"] | blocks}
    return {"CONFIG": config | smaller | nested, "PHONEMES": example.PHONEMES[:1], "FRAMES": 1}, []


def sdxl(example):
    return {"LAYERS": [1, 1, 1], "SMALL": 16}, ["--size=32", "--steps=2"]


def xtts(example):
    return {"SMALL": ({"layers": 2, "model_dim": 64, "heads": 4}, 16)}, ["--codes=3"]


SMALL = [llm, kokoro_old_card, sdxl, xtts]


def run(small, monkeypatch, out, *options, timed=True):
    """`python examples/<name of small>.py <options>`, smaller; files go to `out`."""
    monkeypatch.syspath_prepend(FOLDER)
    for module in FOLDER.glob("*.py"):
        monkeypatch.delitem(sys.modules, module.stem, raising=False)
    example = importlib.import_module(small.__name__)
    if not timed:
        monkeypatch.setattr(sys.modules["measure"], "speed_ratio", lambda *_: (1.0, 1.0, 1.0))
    constants, smaller = small(example)
    for name, value in constants.items():
        monkeypatch.setattr(example, name, value)
    example.main([*smaller, "--rounds=1", f"--out={out}", *options])
