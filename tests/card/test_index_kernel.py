"""Reads and writes by index in mode kernel: PyTorch's own suite, and what that lacks.

An index that is out of range ends the kernel as PyTorch's assertions do there: the next call that waits raises, and the
process cannot use the card any more. Where an index is written to twice, one of the values is kept.
"""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card

pytestmark = pytest.mark.usefixtures("chosen")
DTYPES = (*opinfo_kernels.ALL, torch.complex64, torch.complex128)
SOME = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex128)
TAKEN = {
    *(
        "aten::gather",
        "aten::gather.out",
        "aten::index_select",
        "aten::index_select.out",
        "aten::take",
        "aten::take.out",
    ),
    *("aten::index.Tensor", "aten::_unsafe_index.Tensor", "aten::scatter.src", "aten::scatter_.src"),
    *("aten::scatter.value", "aten::scatter_.value", "aten::scatter.src_out", "aten::scatter.value_out"),
    *("aten::index_copy", "aten::index_copy_", "aten::index_copy.out", "aten::nonzero", "aten::nonzero.out"),
    *("aten::masked_select", "aten::masked_select.out", "aten::embedding"),
}
OPS = {
    "index_select": DTYPES,
    "gather": SOME,
    "take": SOME,
    "take_along_dim": SOME,
    "index_copy": SOME,
    "index_fill": SOME,
    "scatter": SOME,
    "nonzero": DTYPES,
    "masked_select": SOME,
    "masked_scatter": SOME,
    "argwhere": SOME,
    "put": SOME,
    "index_put": SOME,
    "__getitem__": SOME,
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, TAKEN, most=6)


def check(call, *tensors):
    bc.reset_fallbacks()
    got, want = call(*on_card(*tensors)), call(*tensors)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert torch.equal(got.cpu(), want)
    assert not {line.op for line in bc.fallbacks().lines} & (TAKEN | {"aten::_index_put_impl_"})


ROWS, COLUMNS = torch.tensor([[2, -1, 0]]), torch.tensor([[1], [0]])
PLACES = {
    "one": (ROWS,),
    "two": (ROWS, COLUMNS),
    "in the middle": (slice(None), ROWS),
    "apart": (ROWS, slice(None), COLUMNS),
    "with slices": (slice(1, None), ROWS, slice(None, None, 2)),
    "new": (None, ROWS, None),
    "32-bit": (ROWS.int(), COLUMNS),
    "scalar": (torch.tensor(1), slice(None), COLUMNS),
    "mask": (torch.tensor([[True, False, True], [False, False, True], [True, True, True], [False, False, False]]),),
    "mask and index": (torch.tensor([True, False, True, False]), slice(None), torch.tensor([1, 3])),
    "nothing": (torch.empty(0, dtype=torch.int64),),
    "last": (..., ROWS),
}


def of_card(places):
    return tuple(p.cuda() if isinstance(p, torch.Tensor) else p for p in places)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.complex128], ids=str)
@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_places(name, dtype, strided):
    x = reference.values(4, 3, 5, dtype=torch.float32).to(dtype)
    if strided:
        x = x.transpose(0, 2).contiguous().transpose(0, 2)
    places = PLACES[name]
    check(lambda t: t[of_card(places) if t.is_cuda else places], x)

    def written(t, values):
        where = of_card(places) if t.is_cuda else places
        copy = t.clone()
        copy[where] = values
        copy[where] = 3
        return copy

    values = torch.ones(x[places].shape, dtype=dtype)
    check(written, x, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("rows", "width"), [(50, 768), (7, 5), (1, 2)])
def test_embedding(rows, width, dtype):
    weight, ids = reference.values(rows, width, dtype=dtype), torch.randint(0, rows, (3, 11))
    check(torch.nn.functional.embedding, ids, weight)
    check(lambda i, w: torch.nn.functional.embedding(i[:, ::2], w.t().contiguous().t()), ids.int(), weight)


def test_scatter_of_logits():
    """As samplers remove tokens: sorted order back to vocabulary order."""
    order = torch.stack([torch.randperm(1000), torch.randperm(1000)])
    check(lambda o: (o > 300).scatter(1, o, o > 700), order)
    check(lambda o: torch.zeros_like(o).scatter_(1, o[:, :30], 7), order)


def test_more_dimensions_than_a_launch_takes():
    x = reference.values(2, 2, 2, 2, 2, 2, 2, 2).permute(7, 2, 5, 0, 3, 6, 1, 4)
    index = torch.tensor([1, 0, 1])
    assert torch.equal(x.cuda().index_select(3, index.cuda()).cpu(), x.index_select(3, index))


@pytest.mark.parametrize(
    "call",
    [
        lambda x, i: x.gather(5, i),
        lambda x, i: x.gather(0, i[0]),
        lambda x, i: x.gather(0, i.float()),
        lambda x, i: x.index_select(0, i),
        lambda x, i: x[i, i[:, :2], i[:1]],
        lambda x, i: x.scatter(0, i, x.double()),
        lambda x, i: x[torch.ones(3, 3, dtype=torch.bool, device=x.device)],
        lambda x, i: x.index_put_((i,), x.double()),
        lambda x, i: x.index_put_((i,), x),
        lambda x, i: x.masked_select(torch.ones(7, dtype=torch.bool, device=x.device)),
    ],
)
def test_errors_are_pytorchs(call):
    x, i = reference.values(4, 3), torch.tensor([[0, 1, 2], [1, 1, 1]])
    with pytest.raises(Exception) as want:  # noqa: PT011  (its type and text are what is compared)
        call(x.clone(), i)
    with pytest.raises(type(want.value)) as got:
        call(*on_card(x, i))
    assert str(got.value).splitlines()[0] == str(want.value).splitlines()[0]
