"""The ops on weights in packed form, which models have after patch_model(free_original=True)."""

import blackwell_compat as bc
import pytest
import torch
from patching_models import close
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("no_grad")
OPS = torch.ops.blackwell_compat
LINEARS = [(1, 1), (33, 5), (64, 300), (3, 700), (100, 128)]
# C_out, C_in, K, dilation, groups: few outputs, one channel a group, groups, chains that end inside a tap
CONVS = [(8, 6, 3, 1, 1), (40, 33, 7, 1, 1), (40, 130, 5, 3, 1), (8, 8, 5, 2, 8), (1, 64, 7, 1, 1), (12, 16, 3, 2, 2)]
CONVS += [(4, 64, 1, 1, 1), (8, 8, 1, 1, 8), (64, 64, 3, 1, 1), (64, 64, 11, 5, 1)]
TRANSPOSED = [(8, 6, 16, 8), (3, 5, 7, 2), (9, 1, 3, 8), (64, 1, 4, 1), (16, 8, 5, 1), (6, 2, 1, 1)]


def special(*size):
    """Values that a computation could change: signed zeros, infinities, NaN, the smallest numbers."""
    weight = torch.randn(size)
    odd = torch.tensor([-0.0, 0.0, float("inf"), float("nan"), 1e-45, -1e-40])
    weight.view(-1)[: odd.numel()] = odd[: weight.numel()]
    return weight


def same_bits(got, want):
    assert got.is_contiguous()
    assert torch.equal(got.view(torch.int32), want.view(torch.int32))


@pytest.mark.parametrize("size", LINEARS, ids=str)
def test_linear_ops(size):
    weight = special(*size)
    packed = OPS.compat_linear_pack(weight)
    same_bits(OPS.compat_linear_unpack(packed, *size), weight)
    weight, bias, x = torch.randn(size), torch.randn(size[0]), torch.randn(2, 3, size[1])
    packed = OPS.compat_linear_pack(weight)
    got, plain = OPS.compat_linear_packed(x, packed, bias, size[0]), bc.compat_linear(x, weight, bias)
    if size[0] > 4:  # up to 4 outputs are scalar products where the weight is plain
        assert torch.equal(got, plain)
    close(got, plain)
    got = OPS.compat_linear_packed(x, packed, None, size[0], pre_activation="silu", activation="leaky_relu", slope=0.3)
    close(got, F.leaky_relu(F.linear(F.silu(x), weight), 0.3))
    assert OPS.compat_linear_packed(x[:0], packed, bias, size[0]).shape == (0, 3, size[0])
    torch.library.opcheck(OPS.compat_linear_packed, (x, packed, bias, size[0]))
    torch.library.opcheck(OPS.compat_linear_pack, (weight,))
    torch.library.opcheck(OPS.compat_linear_unpack, (packed, *size))


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv1d_ops(case):
    c_out, c_in, k, dilation, groups = case
    weight = special(c_out, c_in // groups, k)
    packed = OPS.compat_conv1d_pack(weight, dilation, groups)
    unpacked = OPS.compat_conv1d_unpack(packed, weight.shape, dilation, groups)
    same_bits(unpacked, weight)
    assert len({t.data_ptr() for t in (weight, packed, unpacked)}) == 3
    weight, bias = torch.randn(weight.shape), torch.randn(c_out)
    packed = OPS.compat_conv1d_pack(weight, dilation, groups)
    for stride in (1, 2):
        for x in (torch.randn(2, c_in, 60), torch.randn(c_in, 60), torch.randn(2, 60, c_in).transpose(1, 2)):
            args = ([stride], [2], [dilation], groups)
            got = OPS.compat_conv1d_packed(x, packed, bias, weight.shape, *args)
            close(got, F.conv1d(x, weight, bias, stride, 2, dilation, groups), layers=8)
    assert OPS.compat_conv1d_packed(x[:0], packed, bias, weight.shape, *args).shape[0] == 0
    torch.library.opcheck(OPS.compat_conv1d_packed, (x, packed, bias, list(weight.shape), *args))
    torch.library.opcheck(OPS.compat_conv1d_pack, (weight, dilation, groups))
    torch.library.opcheck(OPS.compat_conv1d_unpack, (packed, list(weight.shape), dilation, groups))


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose1d_ops(case):
    c_in, c_out, k, stride = case
    weight = special(c_in, c_out, k)
    packed = OPS.compat_conv_transpose1d_pack(weight, stride)
    unpacked = OPS.compat_conv_transpose1d_unpack(packed, weight.shape, stride)
    same_bits(unpacked, weight)
    assert len({t.data_ptr() for t in (weight, packed, unpacked)}) == 3
    weight, bias = torch.randn(weight.shape), torch.randn(c_out)
    packed = OPS.compat_conv_transpose1d_pack(weight, stride)
    for x in (torch.randn(2, c_in, 20), torch.randn(c_in, 20), torch.randn(2, 20, c_in).transpose(1, 2)):
        for more in (0, stride - 1):
            got = OPS.compat_conv_transpose1d_packed(x, packed, bias, weight.shape, [stride], [1], [more])
            close(got, F.conv_transpose1d(x, weight, bias, stride, 1, more), layers=8)
    args = (list(weight.shape), [stride], [0], [0])
    assert OPS.compat_conv_transpose1d_packed(x[:0], packed, bias, *args).shape[0] == 0
    torch.library.opcheck(OPS.compat_conv_transpose1d_packed, (x, packed, bias, *args))
    torch.library.opcheck(OPS.compat_conv_transpose1d_pack, (weight, stride))
    torch.library.opcheck(OPS.compat_conv_transpose1d_unpack, (packed, list(weight.shape), stride))


def test_messages_of_the_ops():
    packed = OPS.compat_linear_pack(torch.randn(33, 5))
    with pytest.raises(RuntimeError, match=r"packed must be a contiguous float32 tensor of \(320,\)"):
        OPS.compat_linear_packed(torch.randn(2, 5), packed[1:], None, 33)
    with pytest.raises(RuntimeError, match=r"bias\.size"):
        OPS.compat_linear_packed(torch.randn(2, 5), packed, torch.randn(7), 33)
    with pytest.raises(RuntimeError, match="same dtype"):
        OPS.compat_linear_packed(torch.randn(2, 5).double(), packed, None, 33)
    with pytest.raises(RuntimeError, match="weight must be float32, 2-D and not empty"):
        OPS.compat_linear_pack(torch.randn(3, 3, 3))
    with pytest.raises(RuntimeError, match="weight must be float32, 3-D"):
        OPS.compat_conv1d_pack(torch.randn(3, 3, 3).half(), 1, 1)
    with pytest.raises(RuntimeError, match=r"packed must be a contiguous float32 tensor"):
        OPS.compat_conv1d_unpack(packed, [3, 3, 3], 1, 1)
    packed = OPS.compat_conv_transpose1d_pack(torch.randn(4, 4, 4), 2)
    with pytest.raises(RuntimeError, match="groups and dilation must be 1"):
        OPS.compat_conv_transpose1d_packed(torch.randn(1, 4, 9), packed, None, [4, 4, 4], [2], [0], [0], 2)
    with pytest.raises(RuntimeError, match="must have 4 channels"):
        OPS.compat_conv_transpose1d_packed(torch.randn(1, 5, 9), packed, None, [4, 4, 4], [2])
