"""What adds up by index in mode kernel: PyTorch's own suite, and what that lacks."""

import blackwell_compat as bc
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card

pytestmark = pytest.mark.usefixtures("chosen")
NUMBERS = (*opinfo_kernels.FLOATS, *opinfo_kernels.INTEGERS)
TAKEN = {
    *("aten::scatter_add", "aten::scatter_add_", "aten::scatter_add.out", "aten::index_add", "aten::index_add_"),
    *("aten::index_add.out", "aten::embedding_dense_backward"),
}
REDUCED = {"aten::scatter_reduce.two", "aten::scatter_reduce_.two", "aten::scatter_reduce.two_out"}
OPS = {
    "scatter_add": (*NUMBERS, torch.complex64),
    "index_add": (*NUMBERS, torch.complex128),
    **{f"scatter_reduce_{name}": NUMBERS for name in ("sum", "prod", "mean", "amax", "amin")},
    "index_put": opinfo_kernels.FLOATS,
    "put": opinfo_kernels.FLOATS,
}


@pytest.mark.parametrize(("name", "dtype"), opinfo_kernels.entries(OPS))
def test_opinfo(name, dtype):
    opinfo_kernels.check(name, dtype, REDUCED if name.startswith("scatter_reduce") else TAKEN, most=6)


def sums(call, *tensors):
    bc.reset_fallbacks()
    got, want = call(*on_card(*tensors)), call(*tensors)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-5)
    assert not {line.op for line in bc.fallbacks().lines} & (TAKEN | {"aten::_index_put_impl_"})
    return got.cpu()


def test_gradients_of_reads():
    weight, ids = reference.values(30, 16).requires_grad_(), torch.randint(0, 30, (4, 50))
    seed = reference.values(4, 50, 16)

    def gradient(call):
        return lambda w, i, s: torch.autograd.grad(call(w, i), w, s[: call(w, i).shape[0]])[0]

    embedding = torch.nn.functional.embedding
    sums(gradient(lambda w, i: embedding(i, w)), weight, ids, seed)
    sums(gradient(lambda w, i: embedding(i, w, padding_idx=3)), weight, ids, seed)
    sums(gradient(lambda w, i: embedding(i, w, scale_grad_by_freq=True)), weight, ids, seed)
    sums(gradient(lambda w, i: w[i]), weight, ids, seed)
    sums(gradient(lambda w, i: w.index_select(0, i[0])), weight, ids, seed[0])
    sums(gradient(lambda w, i: w.gather(0, i[:, :16])), weight, ids, seed[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.complex64], ids=str)
def test_index_put_that_adds(dtype):
    x = reference.values(4, 5, 6, dtype=torch.float32).to(dtype)
    i, j = torch.tensor([[0, 3, 0], [-1, 0, 1]]), torch.tensor([1, 1, 4])
    values = reference.values(2, 3, 6, dtype=torch.float32).to(dtype)
    sums(lambda t, i, j, v: t.clone().index_put_((i, j), v, accumulate=True), x, i, j, values)
    sums(lambda t, i, j, v: t.clone().index_put_((i,), v[0, 0], accumulate=True), x, i, j, values)
    sums(lambda t, i, j, v: t.clone()[:, :, ::2].index_put_((i, j), v[..., :3], accumulate=True), x, i, j, values)
    sums(lambda t, i, j, v: t.clone().transpose(0, 2).index_put_((i, j), v[..., :4], accumulate=True), x, i, j, values)
    sums(
        lambda t, i, j, v: t.clone().index_put_((i, torch.ones_like(i), i), v[..., 0], accumulate=True), x, i, j, values
    )


def test_it_adds_in_the_same_order_each_time():
    """Large and small numbers, whose sum depends on it."""
    values = reference.values(5000) * torch.logspace(-6, 6, 5000)
    index = torch.arange(5000) % 3
    results = [sums(lambda i, v: torch.zeros_like(v)[:3].index_add_(0, i, v), index, values) for _ in range(2)]
    assert torch.equal(*results)
    assert torch.equal(results[0], torch.zeros(3).index_add_(0, index, values))


@pytest.mark.parametrize("alpha", [1, -2])
def test_strided_sources(alpha):
    x, source = reference.values(6, 5, 4), reference.values(4, 5, 7)
    index = torch.tensor([0, 5, 5, 2, 0, 0, 1])
    sums(lambda t, s, i: t.index_add(0, i, s.transpose(0, 2), alpha=alpha), x, source, index)
    sums(lambda t, s, i: t.transpose(0, 2).index_add(2, i, s, alpha=alpha), x, source, index)
    sums(lambda t, s, i: t.scatter_add(0, i[:, None, None].expand(7, 3, 2), s.transpose(0, 2)), x, source, index)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, i: x.index_add(0, i, x),
        lambda x, i: x.index_add(0, i[0], x.double()),
        lambda x, i: x.scatter_add(0, i, x.double()),
        lambda x, i: x.scatter_add(3, i, x),
        lambda x, i: x.scatter_reduce(0, i, x, "median"),
        lambda x, i: x.index_put_((i,), x, accumulate=True),
    ],
)
def test_errors_are_pytorchs(call):
    x, i = reference.values(4, 3), torch.tensor([[0, 1, 2], [1, 1, 1]])
    with pytest.raises(Exception) as want:  # noqa: PT011  (its type and text are what is compared)
        call(x.clone(), i)
    with pytest.raises(type(want.value)) as got:
        call(*on_card(x, i))
    assert str(got.value).splitlines()[0] == str(want.value).splitlines()[0]
