"""The benchmarks for a card that PyTorch has kernels for too: what they measure runs, and none of it on the CPU."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu_compat
import real_models

ON_CARD = [
    make for make in real_models.MODELS if make is not real_models.kokoro
]  # whose width is fixed, so it takes long


@pytest.mark.usefixtures("chosen", "exact_products")
def test_whole_models_and_ops():
    found = gpu_compat.measure(ON_CARD, small=True)
    assert {case["mode"] for case in found.values()} == {"kernel"}
    assert not {name: case["fell back"] for name, case in found.items() if case["fell back"]}
    assert all(case["ms"] > 0 and case["size"] > 0 for case in found.values())
    assert len(found) == 10 * 2 + 2 + 3 + len(ON_CARD)


@pytest.mark.skipif(not importlib.util.find_spec("kokoro"), reason="make wheel-<version> installs kokoro")
def test_kokoro_gives_the_sound_of_its_frames():
    run = real_models.kokoro(torch.device("cpu"), small=True).run
    with torch.inference_mode():
        assert run().shape == (4 * 600,)  # four tokens of a frame each
