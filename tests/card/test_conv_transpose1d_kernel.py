"""compat_conv_transpose1d by this package's kernels on a card: compiled by the NVRTC that is there, checked and started
by the driver, run by the emulator. No kernel of PyTorch is started.
"""

import blackwell_compat as bc
import fakecard
import opinfo
import pytest
import reference
import torch
from by_our_kernels import compare, on_card, only_ours, reset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]

pytestmark = pytest.mark.usefixtures("our_kernels", "exact_products")


def check(*arguments, **options):
    compare(bc.compat_conv_transpose1d, torch.nn.functional.conv_transpose1d, arguments, options)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_opinfo(dtype):
    name = "nn.functional.conv_transpose1d"
    for requires_grad in (False, True):
        for sample in opinfo.named(name).sample_inputs("cpu", dtype, requires_grad=requires_grad):
            check(sample.input, *sample.args, **sample.kwargs)
            opinfo.ran(name, "backward" if requires_grad else "forward")
    only_ours()


AWKWARD = {  # input (C, L), weight (C_in, C_out / groups, K), the options
    "depthwise 1090 k 3 stride 2": (
        (1090, 20),
        (1090, 1, 3),
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 1090},
    ),
    "256->128 k 11 stride 5": ((256, 50), (256, 128, 11), {"stride": 5, "padding": 3}),
    "128->64 k 7 stride 3": ((128, 150), (128, 64, 7), {"stride": 3, "padding": 2}),
    "64->32 k 4 stride 2": ((64, 301), (64, 32, 4), {"stride": 2, "padding": 1}),
    "32->16 k 16 stride 8": ((32, 60), (32, 16, 16), {"stride": 8, "padding": 4}),
    "20->1 k 21 stride 20": ((20, 61), (20, 1, 21), {"stride": 20, "padding": 9}),
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_awkward_shapes(name, dtype):
    of_input, of_weight, options = AWKWARD[name]
    x, weight = reference.values(1, *of_input, dtype=dtype), reference.values(*of_weight, dtype=dtype, seed=1)
    bias = reference.values(of_weight[1] * options.get("groups", 1), dtype=dtype, seed=2)
    check(x, weight, bias, **options)
    check(*(t.requires_grad_() for t in (x, weight, bias)), **options)
    only_ours()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dtype=st.sampled_from(FLOATS),
    batch=st.sampled_from([None, 0, 1, 3]),
    length=st.sampled_from([1, 2, 7, 31, 64, 65]),
    channels=st.tuples(st.sampled_from([1, 2, 8, 9, 24, 33]), st.sampled_from([1, 3, 8, 10, 40, 72])),
    groups=st.sampled_from([1, 1, 2, 3]),
    kernel=st.sampled_from([1, 2, 3, 5, 12]),
    stride=st.sampled_from([1, 2, 3, 4, 9]),
    padding=st.sampled_from([0, 1, 4]),
    output_padding=st.sampled_from([0, 1, 5]),
    dilation=st.sampled_from([1, 1, 2, 4, 6]),
    channels_last=st.booleans(),
    bias=st.booleans(),
    backward=st.booleans(),
)
def test_any_shape(
    dtype,
    batch,
    length,
    channels,
    groups,
    kernel,
    stride,
    padding,
    output_padding,
    dilation,
    channels_last,
    bias,
    backward,
):
    c_in, of_group = groups * channels[0], channels[1]
    output_padding = min(output_padding, max(stride, dilation) - 1)
    if (length - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1 <= 0:
        padding = 0
    x = reference.values(*(() if batch is None else (batch,)), c_in, length, dtype=dtype)
    if channels_last:
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    weight = reference.values(c_in, of_group, kernel, dtype=dtype, seed=1)
    arguments = [x, weight, reference.values(of_group * groups, dtype=dtype, seed=2) if bias else None]
    if backward:
        arguments = [None if t is None else t.requires_grad_() for t in arguments]
    options = {"stride": stride, "padding": padding, "output_padding": output_padding}
    reset()
    check(*arguments, **options, dilation=dilation, groups=groups)
    if x.numel():
        only_ours()


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_result_lies_as_the_input(channels_last):
    x = reference.values(2, 24, 30)
    if channels_last:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    got = bc.compat_conv_transpose1d(*on_card(x, reference.values(24, 16, 3)), stride=2)
    assert got.transpose(1, 2).is_contiguous() == channels_last
    assert got.is_contiguous() != channels_last


@pytest.mark.parametrize("channels", [(24, 16), (24, 1), (4, 16)])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_activations(channels, dtype):
    arguments = [reference.values(2, channels[0], 40, dtype=dtype), reference.values(*channels, 5, dtype=dtype, seed=1)]
    after = {"stride": 2, "activation": "tanh"}
    got = bc.compat_conv_transpose1d(*on_card(*arguments), **after, pre_activation="leaky_relu", pre_slope=0.1).cpu()
    only_ours()
    x, weight = (t.double() for t in arguments)
    want = bc.compat_conv_transpose1d(torch.nn.functional.leaky_relu(x, 0.1).to(dtype).double(), weight, **after)
    reference.assert_rounded(got, want, torch.nn.functional.conv_transpose1d(x.abs(), weight.abs(), stride=2))


def test_few_positions_are_split_and_stay_the_same():
    x, weight = on_card(reference.values(1, 512, 10), reference.values(512, 64, 4, seed=1))
    results = [bc.compat_conv_transpose1d(x, weight, stride=2).cpu() for _ in range(3)]
    assert not fakecard.here() or "compat_conv1d_reduce_f32" in only_ours()
    assert all(torch.equal(results[0], other) for other in results)
