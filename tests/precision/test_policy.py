"""Policies on models: islands, storage, what patch_model does with them and takes back."""

import copy
import pickle
import re

import blackwell_compat as bc
import pytest
import reference
import torch
from blackwell_compat import _C
from blackwell_compat.precision import islands, policy
from torch import nn

BF16 = bc.Policy("bf16", anyway=True)


class SpeakerEncoder(nn.Linear):
    pass


class MelSpectrogram(nn.Module):
    def forward(self, x):
        self.seen = x.dtype
        return torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True).abs()


class Speech(nn.Module):
    """One module of each kind that is an island by default, and some that only sound like one."""

    def __init__(self):
        super().__init__()
        self.to_mel = MelSpectrogram()
        self.voice = SpeakerEncoder(9, 8)
        self.text_tokenizer = nn.Linear(9, 8)
        self.special = nn.Linear(9, 8)
        self.spec_encoder = nn.Linear(9, 8)
        self.body = nn.Sequential(nn.Conv1d(9, 16, 3, padding=1), nn.LeakyReLU(), nn.Conv1d(16, 8, 3, padding=1))
        self.blocks = nn.ModuleList([nn.Conv1d(8, 8, 1)])
        self.conv_post = nn.Conv1d(8, 2, 3, padding=1)
        self.pitch = nn.Conv1d(8, 1, 3, padding=1)

    def forward(self, x):
        mel = self.to_mel(x)
        per_frame = self.voice(mel.transpose(-1, -2)) + self.special(mel.transpose(-1, -2))
        deep = self.blocks[0](self.body(mel))
        return {"deep": deep, "wave": self.conv_post(deep + per_frame.transpose(-1, -2))}


@pytest.fixture
def speech():
    torch.manual_seed(0)
    return Speech().eval()


def x():
    return reference.values(2, 400)


def test_default_islands(speech):
    found = islands.find(speech, BF16)
    assert list(found) == ["to_mel", "voice", "text_tokenizer", "conv_post", "pitch"]
    assert found["voice"].startswith("a speaker encoder")
    assert found["conv_post"] == islands.LAST_STAGE
    assert found["pitch"] == islands.ONE_VALUE
    assert islands.find(speech, bc.Policy(default_islands=False)) == {}


def test_the_users_islands(speech):
    chosen = bc.Policy(float32=("body.0", re.compile("^spec"), nn.ModuleList, nn.LeakyReLU), default_islands=False)
    found = islands.find(speech, chosen)
    assert found == {
        "special": "asked for: '^spec'",
        "spec_encoder": "asked for: '^spec'",
        "body.0": "asked for: 'body.0'",
        "body.1": "asked for: LeakyReLU",
    }
    assert list(islands.find(speech, bc.Policy(float32="body", default_islands=False))) == ["body"]


def test_patch_model_computes_by_a_policy_until_unpatch_model(speech):
    with torch.no_grad():
        want = speech(x())
        report = bc.patch_model(speech, policy=BF16)
        got = speech(x())
        assert got["deep"].dtype == torch.bfloat16
        assert got["wave"].dtype == torch.float32  # the last stage
        assert report.precision == "bfloat16 by policy bf16: asked for"
        assert "conv_post stays in float32: the last stage of a vocoder" in str(report)
        assert report.to_dict()["islands"].keys() == islands.find(speech, BF16).keys()
        again = bc.unpatch_model(speech)(x())
    for name, value in want.items():
        assert torch.equal(again[name], value)
        ratio = (got[name].float() - value).norm() / value.norm()
        assert 1e-4 < ratio < 0.02, (name, ratio)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in speech.modules())


def test_parts_that_are_called_alone_compute_by_it(speech):
    bc.patch_model(speech, policy=BF16)
    assert speech.special(torch.ones(1, 9)).dtype == torch.bfloat16
    assert speech.blocks[0](torch.ones(1, 8, 4)).dtype == torch.bfloat16


def test_islands_get_float32_and_give_what_came_in(speech):
    bc.patch_model(speech, policy=BF16)
    speech.to_mel(x().bfloat16())
    assert speech.to_mel.seen == torch.float32
    assert speech.voice(torch.ones(1, 9).bfloat16()).dtype == torch.bfloat16
    assert speech.voice(torch.ones(1, 9)).dtype == torch.float32
    assert speech.conv_post(torch.ones(1, 8, 5).bfloat16()).dtype == torch.float32


def test_an_error_leaves_every_block(speech):
    bc.patch_model(speech, policy=BF16)
    for broken in (torch.ones(3, 2, 400), "no tensor"):
        with pytest.raises((RuntimeError, TypeError, AttributeError, IndexError)):
            speech(broken)
        assert not _C.precision_is_active()
        assert not torch.is_autocast_enabled("cpu")

    def before_ours(module, args):
        raise ZeroDivisionError

    speech.body.register_forward_pre_hook(before_ours, prepend=True)
    with pytest.raises(ZeroDivisionError):
        speech(x())
    assert not _C.precision_is_active()


def test_copies_and_pickles_keep_it(speech):
    bc.patch_model(speech, policy=BF16)
    for other in (copy.deepcopy(speech), pickle.loads(pickle.dumps(speech))):
        assert other(x())["deep"].dtype == torch.bfloat16
        assert bc.unpatch_model(other)(x())["deep"].dtype == torch.float32
    assert speech(x())["deep"].dtype == torch.bfloat16


def test_a_second_call_keeps_or_replaces_it(speech):
    bc.patch_model(speech, policy=BF16)
    bc.patch_model(speech)
    assert speech(x())["deep"].dtype == torch.bfloat16
    bc.patch_model(speech, policy="fp32")
    assert speech(x())["deep"].dtype == torch.float32


def test_patched_takes_it_back(speech):
    with bc.patched(speech, policy=bc.Policy("bf16", anyway=True, store="bf16")):
        assert speech(x())["deep"].dtype == torch.bfloat16
    assert speech(x())["deep"].dtype == torch.float32
    bc.patch_model(speech, policy=BF16)
    with bc.patched(speech, policy=bc.Policy("fp32", store="bf16")):
        assert speech(x())["deep"].dtype == torch.float32
        assert speech.special.weight.dtype == torch.bfloat16
    assert speech(x())["deep"].dtype == torch.bfloat16
    assert {p.dtype for p in speech.parameters()} == {torch.float32}


def test_dry_run_changes_nothing(speech):
    report = bc.patch_model(speech, policy=BF16, dry_run=True)
    assert report.islands
    assert not any(m._forward_pre_hooks for m in speech.modules())


def test_stored_in_bfloat16_but_for_islands_and_vectors(speech):
    before = {name: p.clone() for name, p in speech.state_dict().items()}
    bc.patch_model(speech, policy=bc.Policy("bf16", anyway=True, store="bf16"))
    for name, p in speech.named_parameters():
        narrow = name.partition(".")[0] in ("special", "spec_encoder", "body", "blocks") and name.endswith("weight")
        assert p.dtype == (torch.bfloat16 if narrow else torch.float32), name
    assert speech(x())["deep"].dtype == torch.bfloat16
    bc.unpatch_model(speech)
    for name, p in speech.state_dict().items():
        assert p.dtype == torch.float32
        torch.testing.assert_close(p, before[name], rtol=2**-8, atol=0)


def test_stored_in_bfloat16_and_computed_in_float32(speech):
    rounded = copy.deepcopy(speech)
    bc.patch_model(speech, policy=bc.Policy("fp32", store="bf16"))
    with torch.no_grad():
        for name, p in rounded.named_parameters():
            p.copy_(speech.get_parameter(name))
        want, got = rounded(x()), speech(x())
    for name, value in want.items():
        assert got[name].dtype == torch.float32
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-5)


def test_what_is_shared_with_an_island_stays_in_float32(speech):
    speech.special.weight = speech.voice.weight
    bc.patch_model(speech, policy=bc.Policy("bf16", anyway=True, store="bf16"))
    assert speech.special.weight.dtype == torch.float32
    assert speech.special.weight is speech.voice.weight


def test_a_failed_patch_gives_the_weights_back_to_the_bit(speech, monkeypatch):
    class OutOfMemory(dict):
        def __getitem__(self, key):
            self.setdefault("reads", []).append(key)
            if len(dict.__getitem__(self, "reads")) == 3:
                raise MemoryError
            return torch.bfloat16

    before = {name: p.clone() for name, p in speech.state_dict().items()}
    monkeypatch.setattr(islands, "DTYPES", OutOfMemory())
    with pytest.raises(MemoryError):
        bc.patch_model(speech, policy=bc.Policy("bf16", anyway=True, store="bf16"))
    assert all(torch.equal(p, before[name]) and p.dtype == torch.float32 for name, p in speech.state_dict().items())
    assert not any(m._forward_pre_hooks for m in speech.modules())
    assert "_compat_root" not in vars(speech)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["hook", "param"])
@pytest.mark.parametrize("store", [None, "bf16"])
def test_weight_norm_stays_right(norm, store):
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Conv1d(64, 32, 5)), nn.LeakyReLU(), norm(nn.Conv1d(32, 8, 3)))
    t = reference.values(2, 64, 40)
    with torch.no_grad():
        want = model(t)
        plain = nn.Sequential(nn.Conv1d(64, 32, 5), nn.LeakyReLU(), nn.Conv1d(32, 8, 3))
        for of, to in zip(model, plain, strict=True):
            if isinstance(to, nn.Conv1d):
                to.weight.copy_(of.weight)
                to.bias.copy_(of.bias)
        options = bc.Policy("bf16", anyway=True, store=store, default_islands=False)
        bc.patch_model(model, policy=options)
        bc.patch_model(plain, policy=options)
        got, peer = model(t), plain(t)
        v = next(p for name, p in model.named_parameters() if name.endswith(("weight_v", "original1")))
        assert v.dtype == (torch.float32 if store is None else torch.bfloat16)
    error, usual = (got.float() - want).norm() / want.norm(), (peer.float() - want).norm() / want.norm()
    assert error < 1.5 * usual


def test_free_original_and_store_exclude_each_other(speech):
    with pytest.raises(bc.NotAvailable, match="free_original=True: it packs float32 weights"):
        bc.patch_model(speech, free_original=True, policy=bc.Policy(store="bf16"))


@pytest.mark.parametrize(
    ("flags", "dtype", "wants"),
    [
        (("avx2",), "bf16", torch.float32),
        (("avx512f", "avx512_bf16"), "bf16", torch.bfloat16),
        (("amx_bf16",), "bf16", torch.bfloat16),
        (("avx512_bf16",), "fp16", torch.float32),
        (("avx512_fp16",), "fp16", torch.float16),
        ((), "fp32", torch.float32),
    ],
)
def test_what_a_policy_comes_to_on_a_cpu(flags, dtype, wants, monkeypatch):
    monkeypatch.setattr(policy, "cpu_isa", lambda: flags)
    resolved = policy.resolve(dtype, "cpu")
    assert resolved.dtype == wants
    assert resolved.why == "asked for" or any(flag in resolved.why for flag in ("avx512", "amx"))


@pytest.mark.parametrize(
    ("capability", "dtype", "wants"),
    [
        ((12, 0), "bf16", torch.bfloat16),
        ((8, 0), "fp16", torch.float16),
        ((7, 5), "bf16", torch.float16),
        ((7, 0), "fp16", torch.float16),
        ((6, 1), "bf16", torch.float32),
        ((6, 1), "fp16", torch.float32),
    ],
)
def test_what_a_policy_comes_to_on_a_card(capability, dtype, wants, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    resolved = policy.resolve(dtype, "cuda:0")
    assert resolved.dtype == wants
    assert f"a card ({capability[0]}.{capability[1]})" in resolved.why
