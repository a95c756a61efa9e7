"""precision_report, suggest_policy, calibrate and device_defaults."""

import json
import math
import subprocess
import sys

import blackwell_compat as bc
import pytest
import reference
import torch
from blackwell_compat.precision import islands
from torch import nn

GIB = 1 << 30


class Scaled(nn.Module):
    """Adds a small part to a large one and subtracts the large one again: bfloat16 loses the small one."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(16, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 16)

    def forward(self, x):
        large = 100 * self.large(x)
        return self.out((self.small(x) + large) - large)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Scaled().eval()


def x():
    return reference.values(8, 16)


def test_errors_of_every_module(model):
    report = bc.precision_report(model, x())
    assert [line.name for line in report.lines] == ["large", "small", "out", ""]
    by_name = {line.name: line for line in report.lines}
    with torch.no_grad():
        got = nn.functional.linear(x().bfloat16(), model.small.weight.bfloat16(), model.small.bias.bfloat16())
        difference = (got.float() - model.small(x())).abs()
    assert by_name["small"].dtype == "bfloat16"
    assert by_name["small"].max == pytest.approx(difference.max().item(), rel=0.2)
    assert by_name["small"].mean == pytest.approx(difference.mean().item(), rel=0.2)
    assert by_name["small"].decibels > 45 > 20 > by_name["out"].decibels
    assert report.whole.decibels == by_name["out"].decibels
    assert not islands.installed(model)
    assert not any(m._forward_hooks for m in model.modules())
    assert "small" in str(report)
    json.dumps(report.to_dict())


def test_islands_are_named_and_equal(model):
    report = bc.precision_report(model, (x(),), bc.Policy(float32=("large", "small", "out")))
    assert all(line.decibels == math.inf for line in report.lines)
    assert report.lines[0].island == "asked for: 'large'"


def test_outputs_that_are_written_in_place_later_are_compared_as_they_were():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            h = self.first(x)
            h += 100 * self.second(x)
            return h

    torch.manual_seed(0)
    report = bc.precision_report(Adds(), x())
    assert all(line.decibels > 40 for line in report.lines)


def test_another_size_is_said(model):
    class Chooses(nn.Module):
        def forward(self, x):
            return x[: 2 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else 3]

    line = bc.precision_report(Chooses(), x()).whole
    assert line.note == "float32 gave (3, 16) where this is (2, 16)"
    assert math.isnan(line.decibels)


def test_the_plot_is_a_picture(model, tmp_path):
    bc.precision_report(model, x()).plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no module differs from float32"):
        bc.precision_report(model, x(), bc.Policy("fp32")).plot(tmp_path / "none.png")


def test_suggests_what_is_needed_and_no_more(model):
    suggested = bc.suggest_policy(model, x(), 0.01)
    assert set(suggested.float32) <= {"large", "small"}
    assert "out" not in suggested.float32
    assert bc.precision_report(model, x(), suggested).whole.decibels >= 40
    for name in suggested.float32:
        fewer = bc.Policy(float32=tuple(other for other in suggested.float32 if other != name))
        assert bc.precision_report(model, x(), fewer).whole.decibels < 40
    assert not islands.installed(model)


def test_suggests_no_island_where_none_is_needed(model):
    assert bc.suggest_policy(model.out, x(), 0.1) == bc.Policy("bf16")


@pytest.mark.parametrize("metric", ["max", "cosine", lambda got, want: (got - want).abs().mean().item()])
def test_other_metrics(model, metric):
    suggested = bc.suggest_policy(model, x(), 0.02, metric)
    with torch.no_grad():
        want = model(x())
        bc.patch_model(model, policy=bc.Policy(float32=suggested.float32, anyway=True))
        got = model(x())
    assert nn.functional.cosine_similarity(got.flatten().float(), want.flatten(), dim=0) > 0.98


def test_a_bound_out_of_reach_is_an_error():
    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(reference.values(16, 16))
            self.part = nn.Linear(16, 16)

        def forward(self, x):
            return self.part(x) @ self.weight

    with pytest.raises(ValueError, match="max_error 1e-09 is below what is reached with every module in float32, "):
        bc.suggest_policy(Between(), x(), 1e-9)


def test_many_modules_are_tried_in_groups():
    torch.manual_seed(0)
    deep = nn.Sequential(*(nn.Linear(8, 8) for _ in range(100)))
    suggested = bc.suggest_policy(deep, reference.values(4, 8), 1e-6)
    assert len(suggested.float32) == 100


def test_calibration_keeps_what_overflows_in_float32():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
    with torch.no_grad():
        model[1].weight.mul_(1e6)
    policy = bc.calibrate(model, x())
    assert policy.float32 == ("1", "2")
    with torch.no_grad():
        want = model(x())
        bc.patch_model(model, policy=bc.Policy("fp16", float32=policy.float32, anyway=True))
        got = model(x())
    assert got.isfinite().all()
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("total", "free", "capability", "size", "wants"),
    [
        (24 * GIB, 20 * GIB, (12, 0), 1 << 20, ("fp32", None)),
        (24 * GIB, 2 << 20, (12, 0), 1 << 20, ("bf16", "bf16")),
        (8 * GIB, 7 * GIB, (8, 6), 1 << 20, ("bf16", None)),
        (8 * GIB, 7 * GIB, (7, 5), 1 << 20, ("fp16", None)),
        (12 * GIB, 11 * GIB, (6, 1), 1 << 20, ("fp32", None)),
        (12 * GIB, 2 << 20, (6, 1), 1 << 20, ("fp32", "fp16")),
    ],
)
def test_defaults_by_memory_and_card(total, free, capability, size, wants, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, total))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    model = nn.Linear(1, size, bias=False)
    defaults = bc.device_defaults("cuda:0", model)
    assert (defaults.policy.dtype, defaults.policy.store) == wants
    assert defaults.tf32 == (capability >= (8, 0))
    assert ("flash" in defaults.sdpa) == (capability == (8, 6))
    assert set(defaults.why) == {"policy", "tf32", "cudnn_benchmark", "memory_fraction", "sdpa"}
    assert f"{total / GIB:.0f} GiB" in str(defaults)
    json.dumps(defaults.to_dict())


def test_defaults_on_the_cpu_and_elsewhere(model):
    assert bc.device_defaults("cpu", model).memory_fraction is None
    with pytest.raises(ValueError, match="device must be the CPU or a CUDA device, got meta"):
        bc.device_defaults("meta", model)


def test_apply_sets_what_it_says():
    code = """
import torch, blackwell_compat as bc
defaults = bc.DeviceDefaults("cuda:0", bc.Policy("fp32"), True, True, None, ("math",), {})
defaults.apply()
assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.benchmark
assert torch.backends.cuda.math_sdp_enabled() and not torch.backends.cuda.flash_sdp_enabled()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_arguments(model):
    with pytest.raises(TypeError, match=r"precision_report: model must be a torch\.nn\.Module, got int"):
        bc.precision_report(3, x())
