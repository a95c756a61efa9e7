"""Whether PyTorch's kernels work, asked in a process of its own where the wheel was not built for the card."""

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat import fallback
from blackwell_compat.patching import modes, probe
from by_our_kernels import only_ours, reset
from on_card import CARD
from torch import nn


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(probe, "_examined", {})


DEVICE = torch.device("cuda:0")


def test_a_card_without_kernels_is_asked_once(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda device: pytest.fail("asked in this process"))
    failed = probe.examine(DEVICE)
    assert "no kernel image" in failed["fill and add"]
    assert failed.keys() == probe.PROBES.keys()
    monkeypatch.setattr(probe, "_probe_in_child", lambda device: pytest.fail("asked twice"))
    assert probe.examine(DEVICE) == failed


@pytest.mark.parametrize(
    ("child", "says"),
    [
        ("import time; time.sleep(60)", "not done after 1 s in a process of its own"),
        ("import os; os._exit(3)", "its process ended with status 3: no message"),
        ("raise SystemError('broken driver')", "its process ended with status 1: SystemError: broken driver"),
        ("print('no json')", "its process ended with status 0: no message"),
    ],
)
def test_a_child_that_does_not_answer(child, says, monkeypatch):
    monkeypatch.setattr(probe, "_CHILD", child)
    monkeypatch.setattr(probe, "SECONDS", 1 if "sleep" in child else 60)
    assert probe.examine(DEVICE) == {"probe": says}
    model = nn.Linear(4, 4).to(CARD)
    report = bc.patch_model(model)
    assert report.mode == "cpu"
    assert says in report.why
    assert not bc.is_enabled()  # nobody knows whether that would help
    assert model(torch.ones(1, 4)).device.type == "cpu"
    monkeypatch.undo()
    assert "probe" not in probe.examine(DEVICE)


def test_mode_cpu_leaves_the_rest_of_the_card_working():
    model, x = nn.Linear(4, 4), torch.ones(1, 4)
    want = model(x) * 2
    try:
        assert bc.patch_model(model.to(CARD), "cpu").why == "asked for"
        got = model(x.to(CARD)) * 2
        assert got.device.type == CARD
        torch.testing.assert_close(got.cpu(), want)
    finally:
        bc.disable()


def test_inside_another_program_this_process_is_asked(monkeypatch):
    monkeypatch.setattr(probe.sys, "executable", "/opt/painter/bin/painter")
    monkeypatch.setattr(probe, "_probe_in_child", lambda device: pytest.fail("it would start the program again"))
    assert "no kernel image" in probe.examine(DEVICE)["fill and add"]


def test_a_wheel_that_was_built_for_the_card_is_asked_here(monkeypatch):
    major, minor = torch.cuda.get_device_capability()
    for listed, here in (
        ([f"sm_{major}{minor}"], True),
        ([f"sm_{major}0", "compute_50"], True),
        ([f"sm_{major}{minor + 1}"], False),
        ([f"sm_{major - 1}0", f"compute_{major}{minor}"], False),
        ([f"sm_{major}{minor}a"], True),
        ([f"sm_{major}{minor + 1}a"], False),
        ([], False),
    ):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda listed=listed: listed)
        assert probe.has_wheel_kernels(DEVICE) == here, listed


def test_hybrid_that_fails_takes_the_fallback_away_again(monkeypatch):
    monkeypatch.setattr(bc.patching.patch.hybrid, "expect_first_call", lambda model: 1 / 0)
    monkeypatch.setattr(bc.patching.patch.moving, "add_hooks", lambda model: 1 / 0)
    model = nn.Linear(4, 4).to(CARD)
    with pytest.raises(ZeroDivisionError):
        bc.patch_model(model, "hybrid")
    assert not bc.is_enabled()
    assert type(model) is nn.Linear
    assert model.weight.device.type == CARD
    assert not any(key.startswith("_compat") for key in vars(model))


def test_the_fallback_does_not_hide_what_the_card_lacks(fallback):
    assert probe.probe(DEVICE) == {}
    assert "no kernel image" in probe.examine(DEVICE)["all"]


def test_our_kernels_on_a_card_that_pytorchs_run_on(our_kernels, monkeypatch):
    bc.disable()  # which an earlier test may have left on
    monkeypatch.setattr(modes, "examine", lambda device: {})
    monkeypatch.setattr(fallback, "lacks_kernels", lambda index: False)
    with pytest.raises(RuntimeError, match="the fallback would only slow it down"):
        bc.enable()
    model, x = nn.Sequential(nn.Linear(48, 48), nn.GELU()).eval(), torch.ones(2, 48)
    with torch.inference_mode():
        want = model(x)
    try:
        report = bc.patch_model(model.to(CARD), "kernel")
        assert report.mode == "kernel"
        assert "PyTorch's kernels work on cuda:0, and are out of the way until disable()" in report.why
        reset()
        with torch.inference_mode():
            got = model(x.to(CARD))
        assert (got.cpu() - want).abs().max() <= 1e-5 * want.abs().max()
        only_ours()
    finally:
        our_kernels.choose(DEVICE, False)
        bc.disable()


def test_force_beside_a_card_that_has_the_fallback_already(monkeypatch):
    with bc.enabled():
        monkeypatch.setattr(fallback, "_lacking", [7])
        with pytest.raises(RuntimeError, match=r"does not serve cuda:0; call disable\(\) before force=True"):
            bc.enable("cuda:0", force=True)
        assert bc.is_enabled()
