"""The examples of the README run as they stand there, one after the other."""

import re
from pathlib import Path

import torch

README = Path(__file__).parents[1] / "README.md"


def test_examples_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    names = {"torch": torch, "model": torch.nn.Linear(8, 8)}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    torch.testing.assert_close(names["again"], names["speech"].float(), atol=1e-4, rtol=0)
    assert names["sound"].shape == (1, 80, 200)
    assert "oneDNN" in capsys.readouterr().out
