"""What the report says, as a table, as a dict, and before anything is changed."""

from __future__ import annotations

import builtins
import json
import logging

import blackwell_compat as bc
import pytest
import torch
import torch.nn.functional as F
from patching_models import Mixed, Resampler, Vocoder, snapshot
from torch import nn


def test_every_module_with_weights_is_listed_once():
    model = Mixed()
    report = bc.patch_model(model)
    with_weights = [name for name, m in model.named_modules() if list(m.parameters(recurse=False))]
    assert [line.name for line in report.modules] == with_weights
    assert report.patched == ["lin", "conv", "up", "causal", "out"]
    assert list(report.left_alone) == ["norm"]
    line = report.modules[0]
    assert (line.name, line.cls, line.patched) == ("lin", "Linear", True)
    assert line.provider == f"ours ({bc._C.cpu_isa})"
    assert line.bytes == (12 * 16 + 16) * 4
    causal = next(line for line in report.modules if line.name == "causal")
    assert causal.cls == "CausalConv1d"
    assert "a Conv1d with its own forward, which is kept" in causal.reason
    assert report.modules[-2].provider == "torch"


def test_the_versions_the_mode_and_the_device():
    report = bc.patch_model(nn.Linear(3, 3))
    assert (report.mode, report.requested, report.why) == ("cpu", "auto", "the model is on the CPU")
    assert (report.torch, report.onednn, report.device) == (torch.__version__, bc._C.onednn_version, "cpu")


def test_float64_is_atens():
    report = bc.patch_model(nn.Linear(3, 3).double())
    assert report.modules[0].provider == "ours (ATen)"


def test_counts():
    counts = bc.patch_model(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), Resampler())).counts
    assert counts == {
        "patched": 2,
        "left_alone": 2,
        "functional": 1,
        "channels_last": 0,
        "patched_bytes": 2 * 20 * 4,
        "bytes": 2 * 20 * 4 + 8 * 4 + 4 * 4,
    }


def test_the_tensors_of_a_parametrization_count_with_their_layer():
    report = bc.patch_model(nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3)))
    assert [(line.name, line.cls, line.bytes) for line in report.modules] == [("", "Conv1d", (6 * 4 * 3 + 6 + 6) * 4)]
    assert "weight_norm folded" in report.modules[0].reason


class Method(nn.Module):
    def forward(self, x):
        return x.stft(8, return_complex=True)


class Imported(nn.Module):
    def forward(self, x):
        from torch.nn import functional as fn

        return F.linear(x, x) + fn.conv1d(x, x) if x.dim() == 3 else torch.conv_transpose1d(x, x)


class Innocent(nn.Module):
    """Names that only look like it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        return self.linear(x)


class LinearAsMethod(nn.Module):
    def linear(self, x):
        return x

    def forward(self, x):
        return self.linear(x)


def test_functional_calls_are_listed():
    model = nn.ModuleDict({"a": Resampler(), "b": Method(), "c": Imported(), "d": Innocent(), "e": LinearAsMethod()})
    found = {line.name: line.calls for line in bc.patch_model(model).functional}
    assert found == {
        "a": ("F.conv1d", "torch.stft"),
        "b": ("Tensor.stft",),
        "c": ("F.linear", "torch.conv_transpose1d"),
    }
    assert bc.patch_model(model).functional[0].reason == "functional call, left to the dispatcher"


def test_functional_calls_without_source():
    scope = {"F": F, "nn": nn}
    exec("class Made(nn.Module):\n    def forward(self, x):\n        return F.conv1d(x, x)\n", scope)
    assert [line.calls for line in bc.patch_model(scope["Made"]()).functional] == [("conv1d",)]


def test_to_dict_is_json():
    report = bc.patch_model(nn.Sequential(Vocoder(), Resampler()))
    again = json.loads(json.dumps(report.to_dict()))
    assert again == report.to_dict()
    assert again["modules"][0]["name"] == "0.conv_pre"
    assert again["channels_last"] == ["0"]
    assert again["counts"]["patched"] == 12


@pytest.mark.parametrize("rich", [True, False])
def test_it_prints(rich, monkeypatch):
    report = bc.patch_model(nn.Sequential(Mixed(), Resampler()), dry_run=True)
    if not rich:
        real = builtins.__import__

        def without(name, *args, **kwargs):
            if name.startswith("rich"):
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
    text = str(report)
    assert ("━" in text) == rich
    for word in ("CausalConv1d", "0.lin", "F.conv1d", "mode cpu", torch.__version__, "dry run: nothing was changed"):
        assert word in text
    assert "6 modules run ours" in text


def test_names_with_brackets_are_no_markup():
    assert "[bold]x" in str(bc.patch_model(nn.ModuleDict({"[bold]x": nn.Linear(2, 2)})))


def test_dry_run_changes_nothing_and_says_the_same():
    model = nn.Sequential(Vocoder(nn.utils.parametrizations.weight_norm), Mixed(), nn.MultiheadAttention(4, 2))
    before = snapshot(model)
    dry = bc.patch_model(model, exclude="1.out", dry_run=True)
    assert snapshot(model) == before
    wet = bc.patch_model(model, exclude="1.out")
    assert dry.dry_run
    assert not wet.dry_run
    assert {**dry.to_dict(), "dry_run": False} == wet.to_dict()


def test_nothing_is_logged_where_nothing_is_wrong(caplog):
    with caplog.at_level(logging.DEBUG, logger="blackwell_compat"):
        bc.patch_model(Mixed())
    assert caplog.records == []


def test_rich_and_transformers_are_not_imported_with_the_package():
    import subprocess
    import sys

    code = (
        "import sys, time, torch; t = time.perf_counter(); import blackwell_compat; t = time.perf_counter() - t\n"
        "print([m for m in ('rich', 'transformers') if m in sys.modules], t < 3)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] True"
