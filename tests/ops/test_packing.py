"""Weights are packed once, and again when they change; `stats()` counts."""

import gc
import io
import os
import subprocess
import sys

import blackwell_compat as bc
import pytest
import reference
import torch
from torch.nn import functional as F


def linear(w):
    return bc.compat_linear(reference.values(3, w.size(1), dtype=w.dtype), w)


def conv1d(w):
    return bc.compat_conv1d(reference.values(2, w.size(1), 50, dtype=w.dtype), w, padding=1)


def conv_transpose1d(w):
    return bc.compat_conv_transpose1d(reference.values(2, w.size(0), 50, dtype=w.dtype), w, stride=2)


TORCH = {
    linear: lambda w: F.linear(reference.values(3, w.size(1)).to(w.dtype), w),
    conv1d: lambda w: F.conv1d(reference.values(2, w.size(1), 50).to(w.dtype), w, padding=1),
    conv_transpose1d: lambda w: F.conv_transpose1d(reference.values(2, w.size(0), 50).to(w.dtype), w, stride=2),
}
SIZES = {linear: (40, 36), conv1d: (40, 36, 3), conv_transpose1d: (36, 20, 4)}
ops = pytest.mark.parametrize("op", SIZES, ids=lambda op: op.__name__)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


class Counted:
    """What `stats()` counted inside a with block."""

    def __enter__(self):
        self.before = bc.stats()
        return self

    def __exit__(self, *exception):
        after = bc.stats()
        self.made, self.reused, self.refused = (
            after[f"packs_{kind}"] - self.before[f"packs_{kind}"] for kind in ("made", "reused", "refused")
        )


def assert_right(op, weight):
    weight = weight.detach()
    reference.assert_as_accurate(op(weight), TORCH[op](weight), TORCH[op](weight.double()))


@ops
@dtypes
def test_packed_once(op, dtype):
    weight = reference.values(*SIZES[op], dtype=dtype)
    with Counted() as counted:
        first = op(weight)
        assert all(torch.equal(op(weight), first) for _ in range(4))
    assert (counted.made, counted.reused, counted.refused) == (1, 4, 0)


@ops
@pytest.mark.parametrize("change", [lambda w: w.mul_(2), lambda w: w.data.mul_(2)], ids=["in place", "by data"])
def test_blocks_of_autocast_share_a_pack(op, change):
    weight = reference.values(*SIZES[op])

    def in_a_block():
        with torch.autocast("cpu", torch.bfloat16):
            return op(weight)

    with Counted() as counted:
        first = in_a_block()
        assert all(torch.equal(in_a_block(), first) for _ in range(4))
    assert (counted.made, counted.reused) == (2, 8)  # the weight in 16 bits, and what is packed of that
    change(weight)
    with torch.no_grad():
        torch.testing.assert_close(in_a_block(), TORCH[op](weight.bfloat16()), rtol=2e-2, atol=2e-2)


def test_a_trace_casts_the_weight():
    layer, x = torch.nn.Linear(36, 40).requires_grad_(False), reference.values(3, 36)
    bc.patch_model(layer)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
        traced = torch.jit.trace(layer, x)
        layer.weight.zero_()
        assert torch.equal(traced(x), layer.bias.bfloat16().expand(3, 40))


@ops
def test_no_cache_of_autocast_none_of_ours(op):
    weight = reference.values(*SIZES[op])
    with Counted() as counted, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        for _ in range(3):
            op(weight)
    assert (counted.made, counted.reused) == (3, 0)


@ops
def test_lengths_share_a_pack(op):
    weight = torch.nn.Parameter(reference.values(*SIZES[op]), requires_grad=False)
    op(weight)
    with Counted() as counted:
        for length in (1, 5, 77, 512):
            if op is linear:
                bc.compat_linear(torch.ones(length, 36), weight, torch.ones(40), activation="relu")
            elif op is conv1d:
                bc.compat_conv1d(torch.ones(1, 36, length), weight, torch.ones(40), padding=1, activation="relu")
            else:
                bc.compat_conv_transpose1d(torch.ones(1, 36, length), weight, torch.ones(20), 2, activation="relu")
    assert (counted.made, counted.reused) == (0, 4)


def by_copy(w):
    w.copy_(reference.values(*w.shape, seed=5))


def by_one_value(w):
    w.view(-1)[w.numel() // 2 + 3] += 1000


def by_optimizer(w):
    w.requires_grad_()
    w.grad = torch.ones_like(w)
    torch.optim.SGD([w], lr=0.5).step()
    w.requires_grad_(False)


def by_out(w):
    torch.mul(w, 3, out=w)


def by_view(w):
    w.view(-1)[1::3].fill_(7)


def by_data_assignment(w):
    w.data = reference.values(*w.shape, seed=5)


def by_data_in_place(w):
    w.data.mul_(2)


def by_numpy(w):
    w.detach().numpy()[...] *= 2


CHANGES = [by_copy, by_one_value, by_optimizer, by_out, by_view, by_data_assignment, by_data_in_place, by_numpy]


@ops
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_weight_is_packed_again(change, op):
    weight = torch.nn.Parameter(reference.values(*SIZES[op]), requires_grad=False)
    assert_right(op, weight)
    old = op(weight)
    change(weight)
    with Counted() as counted:
        assert_right(op, weight)
        assert not torch.equal(op(weight), old)
    assert (counted.made, counted.refused) == (1, 0)


@ops
def test_a_swap_of_storage_at_the_same_version(op):
    first, second = (reference.values(*SIZES[op], seed=seed) for seed in (0, 1))
    weight = torch.nn.Parameter(first, requires_grad=False)
    for data in (second, first, second, first):  # back and forth: both packs are kept
        weight.data = data
        assert_right(op, weight)
    with Counted() as counted:
        for data in (second, first):
            weight.data = data
            assert_right(op, weight)
    assert (counted.made, counted.reused) == (0, 2)


LAYERS = {
    torch.nn.Linear: ((36, 40), bc.compat_linear, (3, 36)),
    torch.nn.Conv1d: ((36, 40, 3), bc.compat_conv1d, (2, 36, 30)),
    torch.nn.ConvTranspose1d: ((36, 20, 4), bc.compat_conv_transpose1d, (2, 36, 30)),
}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_load_state_dict(layer):
    sizes, op, input_size = LAYERS[layer]
    module, other, x = layer(*sizes), layer(*sizes), reference.values(*input_size)
    with torch.no_grad():
        op(x, module.weight, module.bias)
        saved = io.BytesIO()
        torch.save(other.state_dict(), saved)
        saved.seek(0)
        for assign in (False, True):
            module.load_state_dict(torch.load(saved), assign=assign)
            torch.testing.assert_close(op(x, module.weight, module.bias), other(x))
            saved.seek(0)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_training_steps_between_evaluations(layer):
    sizes, op, input_size = LAYERS[layer]
    module, x = layer(*sizes), reference.values(*input_size)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        op(x, module.weight, module.bias).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(op(x, module.weight, module.bias), module(x), rtol=1e-4, atol=1e-4)


@ops
def test_a_weight_that_changes_every_call_is_refused(op):
    weight = reference.values(*SIZES[op])
    with Counted() as counted:
        for _ in range(10):
            weight.add_(1)
            assert_right(op, weight)
    assert counted.made <= 3
    assert counted.refused >= 7
    with Counted() as counted:  # at rest again, it is packed again
        for _ in range(4):
            assert_right(op, weight)
    assert counted.made == 1
    assert counted.reused >= 2


@ops
def test_a_weight_computed_at_each_call_leaves_nothing_behind(op):
    source = reference.values(*SIZES[op])
    before = bc.stats()
    for _ in range(5):
        assert_right(op, source * 2)
    after = bc.stats()
    assert (after["packs"], after["pack_bytes"]) == (before["packs"], before["pack_bytes"])


@ops
def test_the_pack_of_a_freed_weight_is_freed(op):
    gc.collect()
    before = bc.stats()
    weight = reference.values(*SIZES[op])
    op(weight)
    during = bc.stats()
    assert during["packs"] == before["packs"] + 1
    assert during["pack_bytes"] >= before["pack_bytes"] + weight.nbytes
    del weight
    after = bc.stats()
    assert (after["packs"], after["pack_bytes"]) == (before["packs"], before["pack_bytes"])


@ops
def test_what_autocast_kept_of_a_freed_weight_is_freed(op):
    gc.collect()
    before = bc.stats()
    weights = [reference.values(*SIZES[op]) for _ in range(20)]
    with torch.autocast("cpu", torch.bfloat16):
        for weight in weights:
            op(weight)
    assert bc.stats()["packs"] == before["packs"] + 40
    del weight, weights
    after = bc.stats()
    assert (after["packs"], after["pack_bytes"]) == (before["packs"], before["pack_bytes"])


@ops
def test_a_pack_does_not_keep_its_weight_alive(op):
    weight = reference.values(*SIZES[op])
    op(weight)
    storage = torch.multiprocessing.reductions.StorageWeakRef(weight.untyped_storage())
    assert not storage.expired()
    del weight
    assert storage.expired()


@ops
def test_inference_tensors_are_known_by_their_values(op):
    with torch.inference_mode():
        weight = reference.values(*SIZES[op])
        with Counted() as counted:
            for _ in range(3):
                assert_right(op, weight)
        assert (counted.made, counted.reused) == (1, 2)
        with Counted() as counted:
            weight.mul_(2)  # no version counts this
            assert_right(op, weight)
        assert (counted.made, counted.reused) == (1, 0)


@ops
def test_a_weight_made_outside_is_packed_in_inference_mode(op):
    weight = reference.values(*SIZES[op])
    with torch.inference_mode(), Counted() as counted:
        for _ in range(3):
            assert_right(op, weight)
    assert (counted.made, counted.reused) == (1, 2)


@ops
def test_views_of_one_storage(op):
    c_out, c_in, *rest = SIZES[op]
    storage = reference.values(2 * 40 * 40 * 4)
    shape = (c_out, c_in, *rest)
    plain = storage[: torch.Size(shape).numel()].view(shape)
    views = [
        plain,
        storage[8 : 8 + plain.numel()].view(shape),  # another offset
        storage[: plain.numel()].view(c_in, c_out, *rest).transpose(0, 1),  # the same offset and shape, other strides
        storage[: 2 * plain.numel() : 2].view(shape),
    ]
    with Counted() as counted:
        for _ in range(2):
            for view in views:
                assert_right(op, view)
    assert (counted.made, counted.reused) == (4, 4)
    with Counted() as counted:  # all of them read the storage
        storage.mul_(2)
        for view in views[:1]:
            assert_right(op, view)
    assert counted.made + counted.refused == 1


def test_views_of_one_shape_but_another_dtype():
    halves = reference.values(36, 40, dtype=torch.float16)
    with Counted() as counted:
        for _ in range(2):
            assert_right(linear, halves)
            linear(halves.view(torch.bfloat16))  # the same storage, sizes, strides and version: other values
            assert torch.equal(linear(halves.view(torch.bfloat16)), linear(halves.view(torch.bfloat16).clone()))
    assert counted.made == 4  # of the two views, and of the clones


def test_options_that_need_another_pack():
    w = reference.values(12, 6, 3)
    x = reference.values(1, 12, 40)
    for _ in range(2):
        for groups, dilation, stride in ((1, 1, 1), (2, 1, 1), (2, 2, 1), (1, 1, 2), (1, 3, 1)):
            args = (x[:, : 6 * groups], w, None, stride, 0, dilation, groups)
            torch.testing.assert_close(bc.compat_conv1d(*args), F.conv1d(*args))
    square = reference.values(12, 12, 4)
    for _ in range(2):  # the same weight in two ops and with several strides
        torch.testing.assert_close(bc.compat_conv1d(x, square), F.conv1d(x, square))
        for stride in (1, 2, 3):
            got = bc.compat_conv_transpose1d(x, square, stride=stride)
            torch.testing.assert_close(got, F.conv_transpose1d(x, square, stride=stride))


BOUNDED = """
import torch, blackwell_compat as bc
weights = [torch.randn(64, 64) for _ in range(8)]  # 16 KiB each
weights += [torch.randn(5, 4096), torch.randn(64, 64, 3)]  # padded to 32 columns, and a third more: larger when packed
x = torch.randn(3, 64)
for _ in range(3):
    for w in weights:
        if w.dim() == 3:
            y, want = bc.compat_conv1d(torch.ones(1, 64, 9), w), torch.nn.functional.conv1d(torch.ones(1, 64, 9), w)
        else:
            x = torch.ones(3, w.size(1))
            y, want = bc.compat_linear(x, w), x @ w.t()
        torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-4)
        s = bc.stats()
        assert s["pack_capacity"] == CAPACITY and s["pack_bytes"] <= CAPACITY, s
full = bc.stats()
del weights[:8], w, y
weights.append(torch.randn(64, 64))
bc.compat_linear(torch.ones(3, 64), weights[-1])
print(full["packs"], full["packs_made"], full["packs_refused"] > 0, bc.stats()["packs_made"] - full["packs_made"])
"""


@pytest.mark.parametrize(
    ("capacity", "expected"), [(0, "0 0 True 0"), (70 << 10, "4 4 True 1"), (1 << 30, "10 10 False 1")]
)
def test_capacity_is_kept(capacity, expected):
    environment = {**os.environ, "BLACKWELL_COMPAT_PACK_BYTES": str(capacity)}
    code = BOUNDED.replace("CAPACITY", str(capacity))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected
