"""sort, topk, kthvalue and median in mode kernel: PyTorch's own suite, and what that lacks."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card

pytestmark = pytest.mark.usefixtures("chosen")
NUMBERS = (*opinfo_kernels.FLOATS, *opinfo_kernels.INTEGERS)
TAKEN = {
    *("aten::sort", "aten::sort.stable", "aten::sort.values_stable", "aten::argsort.stable", "aten::topk"),
    *("aten::topk.values", "aten::kthvalue.values", "aten::median", "aten::nanmedian", "aten::median.dim_values"),
    "aten::nanmedian.dim_values",
}
# Without ties, whose order PyTorch leaves open unless the sort is stable; the others are in test_strided_rows
FAR_APART = (torch.float32, torch.float64)
OPS = {
    "sort": (*FAR_APART, torch.int64, torch.int32, torch.int16),
    "argsort": (*FAR_APART, torch.int64, torch.int32, torch.int16),
    "msort": NUMBERS,
    "topk": FAR_APART,
    "kthvalue": FAR_APART,
    "median": FAR_APART,
    "nanmedian": FAR_APART,
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN, most=6)


def check(call, *tensors):
    bc.reset_fallbacks()
    got, want = call(*on_card(*tensors)), call(*tensors)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=0, equal_nan=True)
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN


@pytest.mark.parametrize("size", [1, 5, 2048, 2049, 50257])
@pytest.mark.parametrize("descending", [False, True])
def test_logits(size, descending):
    x = (reference.values(2, size) * 8).round()  # many are equal
    check(lambda t: torch.sort(t, stable=True, descending=descending), x)
    x = torch.randperm(2 * size).reshape(2, size).float()
    check(lambda t: torch.topk(t, min(50, size), largest=descending), x)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("dtype", [*NUMBERS, torch.bool], ids=str)
def test_strided_rows(dim, dtype):
    x = (reference.values(6, 7, 5, dtype=torch.float32) * 3).to(dtype)
    if dtype != torch.bool:
        check(
            lambda t: (torch.topk(t, 3, dim).values, torch.kthvalue(t, 2, dim).values, torch.median(t, dim).values), x
        )
    for view in (lambda t: t, lambda t: t.transpose(0, 2), lambda t: t[:, ::2], lambda t: t.expand(2, 6, 7, 5)):
        check(lambda t, view=view: torch.sort(view(t), dim=dim, stable=True), x)


def test_not_a_number_is_the_largest():
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[1, nan, -inf, 0.0, -0.0, nan, inf], [3, 1, 2, 5, 4, 6, 7]])
    for dim in (0, 1):
        check(lambda t, dim=dim: torch.sort(t, dim=dim, stable=True), x)
        check(lambda t, dim=dim: torch.sort(t, dim=dim, descending=True, stable=True), x)
        check(lambda t, dim=dim: torch.median(t, dim), x)
        check(lambda t, dim=dim: torch.nanmedian(t, dim), x)
    check(lambda t: (torch.median(t), torch.nanmedian(t), torch.median(t[1])), x)


def test_nothing():
    check(lambda t: torch.sort(t), torch.empty(3, 0))
    check(lambda t: torch.topk(t, 0), torch.ones(3, 2))
    check(lambda t: torch.sort(t), torch.tensor(3.0))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.sort(x, 3),
        lambda x: torch.topk(x, 9),
        lambda x: torch.kthvalue(x, 0),
        lambda x: torch.median(x[:, :0], 1),
        lambda x: torch.sort(x.to(torch.complex64)),
    ],
)
def test_errors_are_pytorchs(call):
    x = reference.values(4, 3)
    with pytest.raises(Exception) as want:  # noqa: PT011  (its type and text are what is compared)
        call(x.clone())
    with pytest.raises(type(want.value)) as got:
        call(*on_card(x))
    assert str(got.value).splitlines()[0] == str(want.value).splitlines()[0]
