"""The examples of whole models on the CPU, those whose packages are there."""

import importlib

import pytest
from small_examples import SMALL, run

PACKAGES = {"llm": "transformers", "kokoro_old_card": "kokoro", "sdxl": "diffusers", "xtts": "TTS"}


@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.__name__)
def test_on_the_cpu(small, monkeypatch, tmp_path, capsys):
    package = PACKAGES[small.__name__]
    try:
        importlib.import_module(package)
    except ImportError:
        pytest.skip(f"{package} cannot be imported: its extra in pyproject.toml would end this skip")
    run(small, monkeypatch, tmp_path, "--device=cpu")
    printed = capsys.readouterr().out
    assert "mode cpu" in printed
    assert "patched" in printed
