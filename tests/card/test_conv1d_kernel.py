"""compat_conv1d by this package's kernels on a card: compiled by the NVRTC that is there, checked and started by the
driver, run by the emulator. No kernel of PyTorch is started.
"""

import blackwell_compat as bc
import fakecard
import opinfo
import pytest
import reference
import torch
from by_our_kernels import CARD, compare, on_card, only_ours, reset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]

pytestmark = pytest.mark.usefixtures("our_kernels", "exact_products")


def check(*arguments, **options):
    compare(bc.compat_conv1d, torch.nn.functional.conv1d, arguments, options)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_opinfo(dtype):
    for requires_grad in (False, True):
        for sample in opinfo.named("nn.functional.conv1d").sample_inputs("cpu", dtype, requires_grad=requires_grad):
            check(sample.input, *sample.args, **sample.kwargs)
            opinfo.ran("nn.functional.conv1d", "backward" if requires_grad else "forward")
    only_ours()


AWKWARD = {  # input (C, L), weight (C_out, C_in / groups, K), the options; shorter where the length says nothing
    "1->1 k 3 stride 2": ((1, 301), (1, 1, 3), {"stride": 2, "padding": 1}),
    "256->1 k 1": ((256, 50), (1, 256, 1), {}),
    "32->1 k 7": ((32, 3000), (1, 32, 7), {"padding": 3}),
    "1->1 k 2": ((1, 9601), (1, 1, 2), {}),
    "1->320 k 459 stride 441": ((1, 3000), (320, 1, 459), {"stride": 441, "padding": 9}),
    "1->2 k 23 stride 3": ((1, 500), (2, 1, 23), {"stride": 3, "padding": 10}),
    "514->1024": ((514, 7), (1024, 514, 3), {"padding": 1}),
    "1090->1024": ((1090, 7), (1024, 1090, 1), {}),
    "22->256 k 12 stride 6": ((22, 601), (256, 22, 12), {"stride": 6, "padding": 3}),
    "128->22 k 7": ((128, 241), (22, 128, 7), {"padding": 3}),
    "18->256 k 30 stride 15": ((18, 901), (256, 18, 30), {"stride": 15, "padding": 7}),
    "64->18 k 7": ((64, 301), (18, 64, 7), {"padding": 3}),
    "128->128 k 11 dilation 1": ((128, 241), (128, 128, 11), {"padding": 5}),
    "128->128 k 11 dilation 3": ((128, 241), (128, 128, 11), {"padding": 15, "dilation": 3}),
    "128->128 k 11 dilation 5": ((128, 241), (128, 128, 11), {"padding": 25, "dilation": 5}),
    "64->64 k 7 dilation 12": ((64, 336), (64, 64, 7), {"padding": 36, "dilation": 12}),
    "32->32 k 7 dilation 12": ((32, 336), (32, 32, 7), {"padding": 36, "dilation": 12}),
    "depthwise 192 k 3 dilation 9": ((192, 60), (192, 1, 3), {"padding": 9, "dilation": 9, "groups": 192}),
    "depthwise 1280 k 31": ((1280, 24), (1280, 1, 31), {"padding": 15, "groups": 1280}),
    "768->768 k 128 groups 16": ((768, 19), (768, 48, 128), {"padding": 64, "groups": 16}),
    "1->512 k 10 stride 5": ((1, 400), (512, 1, 10), {"stride": 5}),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_shapes(name):
    of_input, of_weight, options = AWKWARD[name]
    x, weight = reference.values(1, *of_input), reference.values(*of_weight, seed=1)
    bias = reference.values(of_weight[0], seed=2)
    check(x, weight, bias, **options)
    only_ours()


@pytest.mark.parametrize(
    "name", ["22->256 k 12 stride 6", "128->22 k 7", "depthwise 192 k 3 dilation 9", "1->2 k 23 stride 3"]
)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_awkward_shapes_backward(name, dtype):
    (channels, length), of_weight, options = AWKWARD[name]
    x, weight = (
        reference.values(2, channels, length // 3, dtype=dtype),
        reference.values(*of_weight, dtype=dtype, seed=1),
    )
    bias = reference.values(of_weight[0], dtype=dtype, seed=2)
    check(x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), **options)
    only_ours()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dtype=st.sampled_from(FLOATS),
    batch=st.sampled_from([None, 0, 1, 3]),
    length=st.sampled_from([1, 2, 7, 31, 64, 65, 150]),
    channels=st.tuples(st.sampled_from([1, 2, 8, 9, 24, 33]), st.sampled_from([1, 3, 8, 10, 16, 40, 72])),
    groups=st.sampled_from([1, 1, 2, 3]),
    kernel=st.sampled_from([1, 2, 3, 5, 12]),
    stride=st.sampled_from([1, 1, 2, 3, 7]),
    padding=st.sampled_from([0, 1, 4, 11]),
    dilation=st.sampled_from([1, 1, 2, 5]),
    channels_last=st.booleans(),
    bias=st.booleans(),
    backward=st.booleans(),
)
def test_any_shape(
    dtype, batch, length, channels, groups, kernel, stride, padding, dilation, channels_last, bias, backward
):
    reach, (c_in, c_out) = dilation * (kernel - 1) + 1, (groups * of_group for of_group in channels)
    if length + 2 * padding < reach:
        padding = reach
    x = reference.values(*(() if batch is None else (batch,)), c_in, length, dtype=dtype)
    if channels_last:
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    weight = reference.values(c_out, c_in // groups, kernel, dtype=dtype, seed=1)
    arguments = [x, weight, reference.values(c_out, dtype=dtype, seed=2) if bias else None]
    if backward:
        arguments = [None if t is None else t.requires_grad_() for t in arguments]
    reset()
    check(*arguments, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if x.numel():
        only_ours()


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_result_lies_as_the_input(channels_last):
    x = reference.values(2, 24, 30)
    if channels_last:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    there = on_card(x, reference.values(16, 24, 3))
    got = bc.compat_conv1d(*there)
    assert got.transpose(1, 2).is_contiguous() == channels_last
    assert got.is_contiguous() != channels_last


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "gelu_tanh", "silu", "tanh"])
@pytest.mark.parametrize("channels", [(24, 16), (24, 1)])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_activations_and_residual(activation, channels, dtype):
    c_in, c_out = channels
    arguments = [
        reference.values(2, c_in, 40, dtype=dtype),
        reference.values(c_out, c_in, 3, dtype=dtype, seed=1),
        reference.values(c_out, dtype=dtype, seed=2),
    ]
    residual = reference.values(2, c_out, 40, dtype=dtype, seed=3)
    options = {"padding": 1, "pre_activation": activation, "pre_slope": 0.1, "activation": activation, "slope": 0.1}
    got = bc.compat_conv1d(*on_card(*arguments), **options, residual=on_card(residual)[0]).cpu()
    only_ours()
    peer = bc.compat_conv1d(*arguments, **options, residual=residual)
    want = bc.compat_conv1d(*(t.double() for t in arguments), **options, residual=residual.double())
    reference.assert_as_accurate(got, peer, want)


def test_same_padding():
    x, weight = reference.values(2, 12, 30), reference.values(16, 12, 5)
    got = bc.compat_conv1d(*on_card(x, weight), padding="same")
    torch.testing.assert_close(got.cpu(), torch.nn.functional.conv1d(x, weight, padding="same"), rtol=1e-4, atol=1e-4)


def test_few_positions_are_split_and_stay_the_same():
    x, weight = on_card(reference.values(1, 512, 20), reference.values(64, 512, 3, seed=1))
    results = [bc.compat_conv1d(x, weight).cpu() for _ in range(3)]
    assert not fakecard.here() or "compat_conv1d_reduce_f32" in only_ours()
    assert all(torch.equal(results[0], other) for other in results)
    check(x.cpu(), weight.cpu())


@pytest.mark.parametrize(("tile", "rows", "outputs"), [("128", 128, 128), ("128x64", 128, 64), ("256x32", 256, 32)])
def test_many_positions_take_large_tiles(tile, rows, outputs):
    positions = rows * torch.cuda.get_device_properties(CARD).multi_processor_count
    x, weight = on_card(reference.values(1, 16, positions), reference.values(outputs, 16, 1, seed=1))
    got = bc.compat_conv1d(x, weight).cpu()
    assert not fakecard.here() or f"compat_conv1d_f32_{tile}" in only_ours()
    reference.assert_as_accurate(
        got, *(torch.nn.functional.conv1d(x.cpu().to(t), weight.cpu().to(t)) for t in (torch.float32, torch.float64))
    )


def test_tf32_only_where_pytorch_may():
    x, weight = on_card(torch.full((1, 16, 5), 1 + 2.0**-12), torch.ones(16, 16, 1))
    exact = 16 * (1 + 2.0**-12)
    assert bc.compat_conv1d(x, weight).cpu().unique().tolist() == [exact]
    torch._C._set_cudnn_allow_tf32(True)
    coarse = torch.cuda.get_device_capability() >= (8, 0)
    assert bc.compat_conv1d(x, weight).cpu().unique().tolist() == [16.0 if coarse else exact]


@pytest.mark.usefixtures("chosen")
def test_mode_kernel_serves_convolutions():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv1d(12, 24, 5, padding=2), torch.nn.ReLU(), torch.nn.ConvTranspose1d(24, 10, 4, 2)
    )
    x = torch.randn(2, 12, 30)
    want = model(x)
    want.sum().backward()
    grads = [p.grad for p in model.parameters()]
    model.zero_grad()
    report = bc.patch_model(model.to(CARD), "kernel")
    assert [line.provider for line in report.modules if line.patched] == ["ours (kernel)"] * 2
    bc.warmup(model)
    reset()
    bc.reset_fallbacks()
    got = model(x.to(CARD))
    got.sum().backward()
    launched = only_ours()
    assert not launched or any(name.startswith("compat_conv1d") for name in launched)
    assert not any("conv" in line.op for line in bc.fallbacks().lines)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-5)
    for p, grad in zip(model.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad.cpu(), grad, rtol=1e-4, atol=1e-4)
