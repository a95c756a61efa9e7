"""cat, stack, flip and roll in mode kernel: PyTorch's own suite, and what that lacks."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card

pytestmark = pytest.mark.usefixtures("chosen")
DTYPES = (*opinfo_kernels.ALL, torch.complex64, torch.complex128)
TAKEN = {"aten::cat", "aten::cat.out", "aten::flip", "aten::roll"}
OPS = {
    "cat": DTYPES,
    "stack": DTYPES,
    **dict.fromkeys(
        ("hstack", "vstack", "dstack", "column_stack", "flip", "fliplr", "flipud", "roll"), (torch.float32, torch.int8)
    ),
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN)


def check(call, *tensors):
    bc.reset_fallbacks()
    got, want = call(*on_card(*tensors)), call(*tensors)
    assert got.dtype == want.dtype
    assert got.stride() == want.stride()
    assert torch.equal(got.cpu(), want)
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.complex128], ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_strided_inputs(dim, dtype):
    x = reference.values(6, 5, 8, dtype=torch.float32).to(dtype)
    pieces = [x, x[::2].repeat_interleave(2, 0), x.flip(2), torch.empty(0, dtype=dtype)]
    check(lambda *t: torch.cat([t[3], t[0], t[1], t[2].transpose(0, 1).contiguous().transpose(0, 1)], dim), *pieces)
    check(lambda t: torch.cat([t[..., 4:], t[..., :4]], dim), x)
    check(lambda t: torch.cat([t.transpose(0, 2), t.transpose(0, 2)], dim), x)


def test_a_cache_that_grows():
    cache, new = reference.values(2, 4, 7, 16), reference.values(2, 1, 4, 16)
    check(lambda a, b: torch.cat((a, b.transpose(1, 2)), dim=2), cache, new)


def test_more_pieces_than_a_launch_takes():
    check(lambda x: torch.cat([x[i : i + 1] for i in range(70)] * 2), reference.values(70, 3))


def test_promoted_dtypes():
    check(lambda a, b: torch.cat([a, b]), reference.values(3), reference.values(4, dtype=torch.float64))


def test_channels_last():
    x = reference.values(2, 4, 3, 5).to(memory_format=torch.channels_last)
    check(lambda t: torch.cat([t, t], 1), x)
    check(lambda t: torch.flip(t, (1, 3)), x)


@pytest.mark.parametrize("shifts", [(1, -2), (13, 0), (-1, 4)])
def test_rolls_of_two_dimensions(shifts):
    check(lambda x: torch.roll(x, shifts, (0, 2)), reference.values(3, 2, 5))
    check(lambda x: torch.roll(x, shifts[0]), reference.values(3, 2, 5))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.cat([x, x[:, 1:]], 0),
        lambda x: torch.cat([x, x], 5),
        lambda x: torch.cat([x, x[0]]),
        lambda x: torch.flip(x, (0, 0)),
        lambda x: torch.roll(x, (1, 2), 0),
        lambda x: torch.cat([x[:2], x[2:]], out=x),
    ],
)
def test_errors_are_pytorchs(call):
    x = reference.values(4, 3)
    with pytest.raises(Exception) as want:  # noqa: PT011  (its type and text are what is compared)
        call(x.clone())
    with pytest.raises(type(want.value)) as got:
        call(*on_card(x))
    assert str(got.value).splitlines()[0] == str(want.value).splitlines()[0]
