"""Padding, and tensors made of numbers, in mode kernel: PyTorch's own suite, and what that lacks."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
FLOATS = opinfo_kernels.FLOATS
TAKEN = {
    "aten::constant_pad_nd",
    *(
        f"aten::re{kind}_pad{n}d{suffix}"
        for kind in ("flection", "plication")
        for n in (1, 2, 3)
        for suffix in ("", ".out")
    ),
    *(f"aten::re{kind}_pad{n}d_backward" for kind in ("flection", "plication") for n in (1, 2, 3)),
    *("aten::arange.start_out", "aten::linspace.out", "aten::eye.out", "aten::eye.m_out"),
    *("aten::tril", "aten::tril_", "aten::tril.out", "aten::triu", "aten::triu_", "aten::triu.out"),
}
NUMBERS = (*FLOATS, *opinfo_kernels.INTEGERS)
OPS = {
    "nn.functional.pad_constant": (*FLOATS, torch.int64, torch.bool, torch.complex128),
    "nn.functional.pad_reflect": FLOATS,
    "nn.functional.pad_replicate": FLOATS,
    "nn.functional.pad_replicate_negative": FLOATS,
    "nn.functional.pad_circular": (torch.float32,),
    "arange": NUMBERS,
    "linspace": NUMBERS,
    "eye": (torch.float32, torch.bool, torch.int64, torch.complex128),
    "tril": (torch.float32, torch.bool, torch.int64, torch.complex128),
    "triu": (torch.float32, torch.bool, torch.int64, torch.complex128),
}
OPS = {name: dtypes for name, dtypes in OPS.items() if name in opinfo_kernels.OPS}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    fractions = name == "arange" and not dtype.is_floating_point  # OpInfo counts whole numbers by them
    opinfo_kernels.check(name, dtype, TAKEN - {"aten::arange.start_out"} if fractions else TAKEN)


def check(call, *tensors):
    bc.reset_fallbacks()
    got, want = call(*on_card(*tensors)), call(*tensors)
    assert got.dtype == want.dtype
    assert got.stride() == want.stride()
    assert torch.equal(got.cpu(), want)
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.complex128], ids=str)
@pytest.mark.parametrize("widths", [(1, 1), (0, 4), (8, 0), (0, 0, 4, 8), (2, -1, -2, 3), (0, 0, 0, 0, 1, 2)], ids=str)
def test_constants(widths, dtype):
    x = reference.values(3, 5, 16, dtype=torch.float32).to(dtype)
    check(lambda t: F.pad(t, widths), x)
    check(lambda t: F.pad(t.transpose(0, 2), widths, value=2), x)
    check(lambda t: F.pad(t[None].contiguous(memory_format=torch.channels_last), widths), x)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("widths", [(3, 4), (0, 2), (-1, 3), (2, 1, 0, 3), (4, 4, 1, -1), (1, 2, 2, 1, 0, 1)], ids=str)
def test_copies_and_their_gradients(mode, widths):
    dims = len(widths) // 2
    x = reference.values(2, 3, *(4, 6, 5)[3 - dims :], dtype=torch.float64)
    check(lambda t: F.pad(t, widths, mode), x)
    check(lambda t: F.pad(t.transpose(0, 1)[:, 1:], widths, mode), x)

    def gradient(t):
        leaf = t.detach().requires_grad_()
        padded = F.pad(leaf, widths, mode)
        weight = torch.arange(padded.numel(), dtype=t.dtype).reshape(padded.shape).to(t.device)
        return torch.autograd.grad(padded, leaf, weight)[0]

    check(gradient, x)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: torch.arange(0, 1000, device=d),
        lambda d: torch.arange(10, -10, -3, device=d),
        lambda d: torch.arange(0, 1, 0.1, device=d),
        lambda d: torch.arange(2**40, 2**40 + 7, device=d),
        lambda d: torch.arange(5, dtype=torch.bfloat16, device=d),
        lambda d: torch.arange(0, device=d),
        lambda d: torch.linspace(-3, 5, 101, dtype=torch.float64, device=d),
        lambda d: torch.linspace(-3, 5, 1, device=d),
        lambda d: torch.linspace(0, 10, 7, dtype=torch.int32, device=d),
        lambda d: torch.eye(300, 5, device=d),
    ],
)
def test_numbers(call):
    want = call("cpu")
    got = call("cuda")
    torch.testing.assert_close(got.cpu(), want, rtol=1e-6, atol=1e-6)
    assert got.dtype == want.dtype


@pytest.mark.parametrize("diagonal", [-2, 0, 1, 9])
def test_triangles_of_strided_matrices(diagonal):
    x = reference.values(3, 4, 7, 5)
    check(lambda t: t.transpose(1, 3).tril(diagonal).contiguous(), x)
    check(lambda t: t[:, ::2].triu(diagonal), x)
    check(lambda t: t.clone().transpose(2, 3).tril_(diagonal), x)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: F.pad(torch.zeros(1, 2, 3, device=d), (3, 0), "reflect"),
        lambda d: F.pad(torch.zeros(2, 3, device=d), (-2, -2)),
        lambda d: torch.arange(0, 5, -1, device=d),
        lambda d: torch.arange(0, float("inf"), device=d),
        lambda d: torch.linspace(0, 1, -1, device=d),
        lambda d: torch.eye(-1, device=d),
    ],
)
def test_errors_are_pytorchs(call):
    with pytest.raises(Exception) as want:  # noqa: PT011  (its type and text are what is compared)
        call("cpu")
    with pytest.raises(type(want.value)) as got:
        call("cuda")
    assert str(got.value).splitlines()[0] == str(want.value).splitlines()[0]
