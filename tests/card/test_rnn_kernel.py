"""LSTM and GRU by this package's kernels, in mode kernel: whole layers, and step by step where a gradient is wanted."""

import copy

import blackwell_compat as bc
import fakecard
import pytest
import reference
import torch
from by_our_kernels import CARD, only_ours, reset
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

pytestmark = pytest.mark.usefixtures("chosen")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
KINDS = {
    "one": {},
    "two layers": {"num_layers": 2, "batch_first": True},
    "both directions": {"bidirectional": True, "num_layers": 2},
    "without bias": {"bias": False, "bidirectional": True, "batch_first": True},
}
CELLS = {"aten::_thnn_fused_lstm_cell", "aten::_thnn_fused_gru_cell", "aten::_thnn_fused_lstm_cell_backward_impl"}
CELLS |= {"aten::_thnn_fused_gru_cell_backward"}


def flat(result):
    if isinstance(result, PackedSequence):
        return [result.data]
    return [t for r in result for t in flat(r)] if isinstance(result, tuple) else [result]


def network(kind, dtype, inputs=12, size=20, **options):
    torch.manual_seed(0)
    return getattr(torch.nn, kind)(inputs, size, **options).to(dtype)


def states(kind, count, rows, size, dtype):
    tensors = [reference.values(count, rows, size, dtype=dtype, seed=i) for i in range(2)]
    return tuple(tensors) if kind == "LSTM" else tensors[0]


def there(value):
    if isinstance(value, PackedSequence):
        return value.to(CARD)
    return tuple(t.to(CARD) for t in value) if isinstance(value, tuple) else value.to(CARD)


@pytest.fixture(autouse=True)
def without_onednn():
    """Its LSTM in bfloat16 wants instructions that not every CPU has. PyTorch's test suite freezes the public flag."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(before)


def compare(net, x, hx=None):
    """Without gradients: only ours, as whole layers; as close to float64 as the CPU is, and its strides."""
    net.requires_grad_(False)
    arguments = (x,) if hx is None else (x, hx)
    on_card, given = copy.deepcopy(net).to(CARD), [there(a) for a in arguments]
    reset()
    bc.reset_fallbacks()
    with torch.no_grad():
        got = flat(on_card(*given))
        launched = only_ours()
        want = flat(net(*arguments))
        exact = flat(copy.deepcopy(net).double()(*(wide(a) for a in arguments)))
    if fakecard.here():
        assert any("_step_" in name for name in launched), launched
    assert not {line.op for line in bc.fallbacks().lines} & (CELLS | {"aten::mm", "aten::addmm"})
    for ours, peer, e in zip(got, want, exact, strict=True):
        assert ours.stride() == peer.stride()
        reference.assert_as_accurate(ours.cpu(), peer, e)


def wide(value):
    return tuple(t.double() for t in value) if type(value) is tuple else value.double()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("name", KINDS)
def test_layers(kind, name, dtype):
    net = network(kind, dtype, **KINDS[name])
    x = reference.values(5, 7, 12, dtype=dtype)
    compare(net, x)
    rows = x.shape[0 if net.batch_first else 1]
    count = net.num_layers * (2 if net.bidirectional else 1)
    compare(net, x, states(kind, count, rows, 20, dtype))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("name", ["one", "both directions"])
def test_packed(kind, name):
    net = network(kind, torch.float32, **KINDS[name])
    packed = pack_padded_sequence(reference.values(6, 4, 12), torch.tensor([6, 4, 4, 1]))
    compare(net, packed)
    compare(net, packed, states(kind, net.num_layers * (2 if net.bidirectional else 1), 4, 20, torch.float32))


def test_a_voice_encoder():
    compare(network("LSTM", torch.float32, 40, 64, num_layers=3, batch_first=True), reference.values(12, 9, 40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gradients(kind, dtype):
    net = network(kind, dtype, bidirectional=True)
    x = reference.values(4, 3, 12, dtype=dtype).requires_grad_()
    on_card, given = copy.deepcopy(net).to(CARD), x.detach().to(CARD).requires_grad_()
    bc.reset_fallbacks()
    got = on_card(given)[0]
    seed = reference.values(*got.shape, dtype=dtype, seed=1)
    grads = torch.autograd.grad(got, [given, *on_card.parameters()], seed.to(CARD))
    assert not {line.op for line in bc.fallbacks().lines} & CELLS
    want = net(x)[0]
    torch.testing.assert_close(got.detach().cpu(), want.detach(), rtol=1e-5, atol=1e-5)
    for grad, its in zip(grads, torch.autograd.grad(want, [x, *net.parameters()], seed), strict=True):
        torch.testing.assert_close(grad.cpu(), its, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("autocast", ["torch", "ours"])
@pytest.mark.parametrize("wants_grad", [False, True], ids=["", "grad"])
@pytest.mark.parametrize("mode", ["kernel", "fallback"])
@pytest.mark.parametrize("given", ["steps", "packed", "float16", "float64"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_autocast(chosen, kind, given, mode, wants_grad, autocast):
    """All results are of autocast's precision, as cuDNN's and the cells' are; float64 stays."""
    if mode == "fallback":
        chosen.choose(torch.device("cuda", 0), False)
    wide = torch.float64 if given == "float64" else torch.float32
    net = network(kind, wide, num_layers=2, bidirectional=True).to(CARD)
    x = reference.values(5, 3, 12, dtype=torch.float16 if given == "float16" else wide).to(CARD)
    block = torch.autocast("cuda", dtype=torch.float16) if autocast == "torch" else bc.autocast("fp16")
    with block:  # the policy turns to float32 on a card that is slow in half precision
        low = wide if given == "float64" else torch.ones(1, 1, device=CARD).mm(torch.ones(1, 1, device=CARD)).dtype
    same = x.to(low)
    if given == "packed":
        x, same = (pack_padded_sequence(t, torch.tensor([5, 3, 2])) for t in (x, same))
    with torch.set_grad_enabled(wants_grad), block:
        got = flat(net(x, there(states(kind, 4, 3, 20, wide))))
    assert {t.dtype for t in got} == {low}
    assert {t.requires_grad for t in got} == {wants_grad}
    with torch.no_grad():
        want = flat(copy.deepcopy(net).to(low)(same, there(states(kind, 4, 3, 20, low))))
    for ours, its in zip(got, want, strict=True):
        torch.testing.assert_close(ours.detach().cpu(), its.cpu(), rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_cells(kind):
    cell = network(kind, torch.float32)
    x = reference.values(3, 12)
    want = flat(cell(x))
    got = flat(copy.deepcopy(cell).to(CARD)(x.to(CARD)))
    for ours, its in zip(got, want, strict=True):
        torch.testing.assert_close(ours.detach().cpu(), its.detach(), rtol=1e-5, atol=1e-5)
        assert ours.requires_grad


@pytest.mark.parametrize(
    "options",
    [{"proj_size": 5}, {"dropout": 1.0, "num_layers": 2}, {}],
    ids=["projections", "dropout", "a gradient of the input"],
)
def test_others_are_made_of_steps(options):
    net = network("LSTM", torch.float32, **options).requires_grad_(False)
    x = reference.values(4, 3, 12)
    want = net(x)[0]
    got = copy.deepcopy(net).to(CARD)(x.to(CARD).requires_grad_(not options))[0]
    torch.testing.assert_close(got.detach().cpu(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda net, x: net(x[..., :5]),
        lambda net, x: net(x.double()),
        lambda net, x: net(x, (x.new_zeros(1, 2, 20), x.new_zeros(1, 2, 20))),
    ],
    ids=["inputs", "dtype", "rows"],
)
def test_errors_are_pytorchs(call):
    net, x = network("LSTM", torch.float32), reference.values(4, 3, 12)
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)) as on_cpu:
        call(net, x)
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)) as on_the_card:
        call(copy.deepcopy(net).to(CARD), x.to(CARD))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]
