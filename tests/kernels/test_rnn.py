"""Cells and steps of LSTM and GRU as the emulator runs them, against float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded

CELL = ("input_gates", "hidden_gates", "input_bias", "hidden_bias", "state", "hidden", "cell", "workspace")
GRAD = ("grad_hidden", "grad_cell", "state", "cell", "workspace", "grad_input", "grad_hidden_gates", "grad_state")
DIRECTION = ("gates", "weight", "bias", "first", "first_cell", "before", "out", "last", "cell")


class CellParams(ctypes.Structure):
    """RnnCellParams of csrc/kernels/rnn.cuh."""

    _fields_ = (*((n, ctypes.c_void_p) for n in CELL), ("rows", ctypes.c_longlong), ("size", ctypes.c_longlong))


class GradParams(ctypes.Structure):
    _fields_ = (*((n, ctypes.c_void_p) for n in GRAD), ("rows", ctypes.c_longlong), ("size", ctypes.c_longlong))


class Direction(ctypes.Structure):
    _fields_ = (*((n, ctypes.c_void_p) for n in DIRECTION), ("rows", ctypes.c_int), ("rows_before", ctypes.c_int))


class StepParams(ctypes.Structure):
    _fields_ = (
        ("direction", Direction * 2),
        ("weight_row", ctypes.c_longlong),
        ("out_row", ctypes.c_longlong),
        ("size", ctypes.c_int),
        ("blocks_of_rows", ctypes.c_uint),
        ("vectors", ctypes.c_int),
    )


def values(*shape, dtype, seed):
    return guarded(reference.values(*shape, dtype=DTYPES[dtype], seed=seed))


def empty(*shape, dtype):
    return guarded(torch.zeros(shape, dtype=DTYPES[dtype]))


def launch(kind, dtype, p):
    emulator.load(800).launch(f"compat_rnn_{kind}_{dtype}", ceil_div(p.rows * p.size, 128), 128, 0, p)


def addresses(structure, **tensors):
    return structure(**{name: t.data_ptr() for name, t in tensors.items()})


def cell(kind, gates, of_state, state, hidden_bias=None):
    """The gates, hidden and LSTM's cell in float64."""
    bias = 0 if hidden_bias is None else hidden_bias
    if kind == "lstm":
        i, f, g, o = (gates + of_state + bias).chunk(4, 1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        new = f * state + i * g
        return torch.cat([i, f, g, o], 1), o * new.tanh(), new
    (ir, iz, ig), (hr, hz, hn) = gates.chunk(3, 1), (of_state + bias).chunk(3, 1)
    r, z = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    n = (ig + r * hn).tanh()
    return torch.cat([r, z, n, state, hn], 1), n + z * (state - n), None


def same(got, exact):
    eps = torch.finfo(got.dtype).eps
    torch.testing.assert_close(got.double(), exact, rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("biased", [True, False])
def test_cells(dtype, kind, biased):
    rows, size = 5, 33
    gates = 4 if kind == "lstm" else 3
    of_input, of_state = (values(rows, gates * size, dtype=dtype, seed=i) for i in range(2))
    state = values(rows, size, dtype=dtype, seed=2)
    biases = [values(gates * size, dtype=dtype, seed=3 + i) for i in range(2)]
    hidden, new = empty(rows, size, dtype=dtype), empty(rows, size, dtype=dtype)
    workspace = empty(rows, (4 if kind == "lstm" else 5) * size, dtype=dtype)
    tensors = {"input_gates": of_input, "hidden_gates": of_state, "state": state}
    p = addresses(CellParams, **tensors, hidden=hidden, cell=new, workspace=workspace)
    if biased:
        p.input_bias, p.hidden_bias = (b.data_ptr() for b in biases)
    p.rows, p.size = rows, size
    launch(f"{kind}_cell", dtype, p)
    wide = of_input.double() + (biases[0].double() if biased else 0)
    saved, want, want_cell = cell(kind, wide, of_state.double(), state.double(), biases[1].double() if biased else None)
    same(hidden, want)
    same(workspace, saved)
    if kind == "lstm":
        same(new, want_cell)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", ["both", "hidden", "cell"])
def test_gradients_of_lstm(dtype, given):
    rows, size = 5, 33
    gates, state = values(rows, 4 * size, dtype=dtype, seed=1), values(rows, size, dtype=dtype, seed=2)
    wide = [t.double().requires_grad_() for t in (gates, state)]
    saved, hidden, new = cell("lstm", wide[0], 0, wide[1])
    dh, dc = (values(rows, size, dtype=dtype, seed=3 + i) for i in range(2))
    workspace, after = guarded(saved.detach().to(dh.dtype)), guarded(new.detach().to(dh.dtype))
    grad_gates, grad_state = empty(rows, 4 * size, dtype=dtype), empty(rows, size, dtype=dtype)
    grads = {"grad_input": grad_gates, "grad_state": grad_state}
    p = addresses(GradParams, state=state, cell=after, workspace=workspace, **grads)
    p.grad_hidden = dh.data_ptr() if given != "cell" else None
    p.grad_cell = dc.data_ptr() if given != "hidden" else None
    p.rows, p.size = rows, size
    launch("lstm_grad", dtype, p)
    sums = [(hidden * dh.double()).sum() * (given != "cell"), (new * dc.double()).sum() * (given != "hidden")]
    for got, want in zip((grad_gates, grad_state), torch.autograd.grad(sum(sums), wide), strict=True):
        same(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_gru(dtype):
    rows, size = 5, 33
    of_input, of_state = (values(rows, 3 * size, dtype=dtype, seed=i) for i in range(2))
    state, dh = (values(rows, size, dtype=dtype, seed=2 + i) for i in range(2))
    wide = [t.double().requires_grad_() for t in (of_input, of_state, state)]
    saved, hidden, _ = cell("gru", *wide)
    workspace = guarded(saved.detach().to(dh.dtype))
    grads = [empty(rows, 3 * size, dtype=dtype), empty(rows, 3 * size, dtype=dtype), empty(rows, size, dtype=dtype)]
    names = ("grad_input", "grad_hidden_gates", "grad_state")
    p = addresses(GradParams, grad_hidden=dh, workspace=workspace, **dict(zip(names, grads, strict=True)))
    p.rows, p.size = rows, size
    launch("gru_grad", dtype, p)
    for got, want in zip(grads, torch.autograd.grad((hidden * dh.double()).sum(), wide), strict=True):
        same(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(("rows", "before", "size"), [(1, 1, 64), (6, 3, 33), (5, 0, 136)])
def test_steps(dtype, kind, rows, before, size):
    """Two directions at once, the other one of fewer rows; states of some rows come from the step before."""
    gates = 4 if kind == "lstm" else 3
    name = DTYPES[dtype]
    out_row = 2 * size
    p = StepParams(weight_row=size, out_row=out_row, size=size, blocks_of_rows=ceil_div(rows, 4))
    p.vectors = size * name.itemsize % 16 == 0
    out = guarded(torch.zeros(rows, out_row, dtype=name))
    checks, kept = [], []
    for d in range(2):
        n = rows - d * (rows > 1)
        of_input = values(rows, gates * size, dtype=dtype, seed=10 * d)
        weight = guarded((reference.values(gates * size, size, dtype=torch.float64, seed=10 * d + 1) / size).to(name))
        bias = values(gates * size, dtype=dtype, seed=10 * d + 2)
        first, first_cell, state = (values(rows, size, dtype=dtype, seed=10 * d + i) for i in (3, 4, 6))
        earlier = values(rows, out_row, dtype=dtype, seed=10 * d + 5)
        last = guarded(torch.full((rows, size), 7.0, dtype=torch.float64).to(name))
        hidden = torch.cat([earlier[: min(before, n), d * size : (d + 1) * size], first[min(before, n) : n]]).double()
        of_state = hidden @ weight.double().T + bias.double()
        cells = torch.cat([state[: min(before, n)], first_cell[min(before, n) : n]]).double()
        _, want, new = cell(kind, of_input[:n].double(), of_state, cells if kind == "lstm" else hidden)
        offset = d * size * name.itemsize
        to = p.direction[d]
        to.gates, to.weight, to.bias = of_input.data_ptr(), weight.data_ptr(), bias.data_ptr()
        to.first, to.before, to.last = first.data_ptr(), earlier.data_ptr() + offset, last.data_ptr()
        to.first_cell = first_cell.data_ptr()
        to.out, to.cell, to.rows, to.rows_before = out.data_ptr() + offset, state.data_ptr(), n, min(before, n)
        checks.append((n, want, new, last, state))
        kept.append((of_input, weight, bias, first, first_cell, earlier))
    blocks = ceil_div(size, 4) * p.blocks_of_rows * 2
    emulator.load(800).launch(f"compat_rnn_{kind}_step_{dtype}", blocks, 128, 0, p)
    for d, (n, want, new, last, state) in enumerate(checks):
        same(out[:n, d * size : (d + 1) * size], want)
        same(last[:n], want)
        assert last[n:].eq(7).all()
        if kind == "lstm":
            same(state[:n], new)
