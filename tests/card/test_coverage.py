"""What serves the ops that models call: in mode kernel, none of them is left to the CPU."""

import json
from pathlib import Path

import blackwell_compat as bc
import pytest
import torch

pytestmark = pytest.mark.usefixtures("chosen")

OPS = json.loads((Path(__file__).parents[2] / "benchmarks" / "aten_ops.json").read_text())


def test_the_ops_of_twelve_models():
    covered = bc.coverage(OPS)
    assert len({model for models in OPS.values() for model in models}) == 12
    assert not {op for op, by in covered.items() if by == "fallback"}
    assert covered["aten::add.Tensor"] == "kernel"
    assert covered["aten::view"] == "kept"
    assert covered["aten::clone"] == "composite"
    assert covered["aten::copy_"] == "own"


def test_the_ops_of_a_model():
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Softmax(-1)).to("cuda")
    covered = bc.coverage(model, torch.ones(2, 8, device="cuda"))
    assert {"aten::relu", "aten::_softmax"} <= covered.keys()
    assert "fallback" not in covered.values()
