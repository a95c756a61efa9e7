"""Sparse, nested and quantized tensors on a card without kernels, and bits and strides that an op gives its out=."""

import pytest
import torch
from on_card import CARD, assert_no_launch, assert_same_on_card, values
from torch.nn import functional as F

pytestmark = [
    pytest.mark.usefixtures("fallback"),
    pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:The PyTorch API of nested:UserWarning"),
]


def out_that_becomes_a_conjugate(d):
    """linalg.lu_solve from the right computes the conjugate of its result and sets the bit."""
    a = torch.complex(values(2, 3, 3), values(2, 3, 3).flip(0)) + torch.eye(3)
    factors, pivots = (t.to(d) for t in torch.linalg.lu_factor(a))
    b = torch.complex(values(2, 4, 3), values(2, 4, 3)).to(d)
    out = torch.zeros_like(b)
    torch.linalg.lu_solve(factors, pivots, b, left=False, out=out)
    return out, out.resolve_conj() + 0


def test_out_that_becomes_a_conjugate():
    assert_same_on_card(out_that_becomes_a_conjugate, tolerance=1e-6)


@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "batch"])
def test_out_that_becomes_a_part_of_a_taller_matrix(batch):
    """linalg.lstsq computes in the place of the right-hand sides, of which the solution is the upper rows."""

    def run(d):
        a, b = (values(*batch, 6, 3) + torch.eye(6, 3)).to(d), values(*batch, 6, 2).to(d)
        given = torch.zeros(40, device=d)
        out = given[4:4], torch.empty(0, device=d), torch.empty(0, dtype=torch.long, device=d), torch.empty(0, device=d)
        torch.linalg.lstsq(a, b, driver="gelss", out=out)
        solution, _, rank, singular = torch.linalg.lstsq(a, b, driver="gelss")
        return solution, solution * 2, rank, singular, out[0], out[0] - 1, given[:4]

    assert_same_on_card(run, tolerance=1e-6)


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc, torch.sparse_coo], ids=str)
def test_out_that_is_sparse(layout):
    def run(d):
        x = (torch.eye(5) * values(5)).to(d).to_sparse(layout=layout)
        out = torch.zeros(5, 5, device=d).to_sparse(layout=layout)
        torch.add(x, x, out=out)
        return out.to_dense(), out.values() if layout != torch.sparse_coo else out.coalesce().values()

    assert_same_on_card(run)


def test_sampled_product_of_dense_matrices():
    def run(d):
        mask, out = (torch.eye(4).to(d).to_sparse_csr() for _ in range(2))
        torch.sparse.sampled_addmm(mask, values(4, 6).to(d), values(6, 4).to(d), beta=0.5, out=out)
        return out.values()

    assert_same_on_card(run)


def nested(d):
    return torch.nested.nested_tensor([values(3, 4), values(5, 4)]).to(d)


NESTED = {
    "padded": lambda n: torch.nested.to_padded_tensor(n, -1.0),
    "layer_norm": lambda n: F.layer_norm(n, (4,), values(4).to(n.device), values(4).to(n.device)).unbind(),
    "linear": lambda n: F.linear(n, values(6, 4).to(n.device)).unbind(),
    "softmax": lambda n: torch.softmax(n, -1).unbind(),
    "bmm": lambda n: torch.bmm(n, n.transpose(1, 2)).unbind(),
    "arithmetic": lambda n: (n * n + n).relu().unbind(),
    "in_place": lambda n: n.mul_(2).relu_().unbind(),
    "parts": lambda n: [t + 1 for t in n.unbind()],
}


@pytest.mark.parametrize("function", NESTED.values(), ids=NESTED.keys())
def test_nested(function):
    assert_same_on_card(lambda d: function(nested(d)), tolerance=1e-6)


def test_nested_from_padding_and_a_mask():
    def run(d):
        mask = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool).to(d)
        return torch._nested_tensor_from_mask(values(2, 3, 4).to(d), mask).unbind()

    assert_same_on_card(run)


def test_gradients_of_nested_parts():
    def run(d):
        parts = [values(3, 4).to(d).requires_grad_(), values(5, 4).to(d).requires_grad_()]
        n = torch.nested.as_nested_tensor(parts)
        torch.nested.to_padded_tensor(F.linear(n, values(6, 4).to(d)).relu(), 0.0).sum().backward()
        return [p.grad for p in parts]

    assert_same_on_card(run, tolerance=1e-6)


def test_jagged():
    def run(d):
        n = torch.nested.nested_tensor([values(3, 4), values(5, 4)], layout=torch.jagged).to(d)
        return (F.linear(n, values(6, 4).to(d)) * 2).values(), (n + 1).values()

    assert_same_on_card(run, tolerance=1e-6)


def quantized(d):
    return torch.quantize_per_tensor(values(4, 6).to(d), 0.05, 10, torch.quint8)


def per_channel(d):
    scales, zeros = values(4).abs().to(d), torch.zeros(4, dtype=torch.long, device=d)
    return torch.quantize_per_channel(values(4, 6).to(d), scales, zeros, 0, torch.qint8)


QUANTIZED = {
    "dequantize": lambda q: q.dequantize(),
    "bytes": lambda q: q.int_repr(),
    "relu": lambda q: q.relu().dequantize(),
    "in_place": lambda q: q.relu_().dequantize(),
    "clone": lambda q: q.clone().dequantize(),
    "part": lambda q: q[1:3].dequantize(),
}


@pytest.mark.parametrize("function", QUANTIZED.values(), ids=QUANTIZED.keys())
def test_quantized(function):
    assert_same_on_card(lambda d: function(quantized(d)))


def test_quantized_per_channel():
    assert_same_on_card(
        lambda d: (per_channel(d).dequantize(), per_channel(d).int_repr(), per_channel(d)[1:3].dequantize())
    )


def test_a_quantized_tensor_of_the_cpu_moves_to_the_card_and_back():
    q = quantized("cpu").to(CARD)
    assert q.is_quantized
    assert q.q_scale() == quantized("cpu").q_scale()
    assert torch.equal(q.cpu().int_repr(), quantized("cpu").int_repr())
    assert_no_launch()


def test_a_layout_that_stays_on_the_cpu_is_refused():
    with pytest.raises(NotImplementedError, match=r"aten::to_mkldnn.*the result is Mkldnn.*call it on the CPU"):
        values(4).to(CARD).to_mkldnn()
