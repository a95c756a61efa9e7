"""Pointwise ops in mode kernel: PyTorch's own suite, and what it lacks."""

import math

import blackwell_compat as bc
import fakecard
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset
from opinfo_kernels import ALL, FLOATS, INTEGERS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")

C64 = (torch.complex64,)
REALS = (*FLOATS, *INTEGERS)
WITHOUT_BF16 = tuple(dtype for dtype in REALS if dtype != torch.bfloat16)
FUNCTIONS = (torch.float32, torch.float16, torch.int32, torch.bool)  # integers become float32
INTS_B = (*INTEGERS, torch.bool)
# OpInfo's name -> dtypes, aten ops that are not called so
OPS = {
    **dict.fromkeys(
        ["add", "mul", "where", "eq", "ne", "logical_and", "logical_or", "logical_xor", "logical_not"], ALL + C64
    ),
    **dict.fromkeys(["sub", "addcmul", "neg", "pow", "abs"], REALS + C64),
    # In bfloat16 OpInfo divides by 2^-126, by which the CPU's remainder is NaN
    **dict.fromkeys(["remainder", "fmod", "div_floor_rounding", "div_trunc_rounding", "floor_divide"], WITHOUT_BF16),
    **dict.fromkeys(["clamp", "clamp_min", "clamp_max"], REALS),
    **dict.fromkeys(["maximum", "minimum", "fmax", "fmin", "lt", "le", "gt", "ge", "sign", "sgn"], ALL),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"], INTS_B),
    **dict.fromkeys(["bitwise_left_shift", "bitwise_right_shift"], INTEGERS),
    **dict.fromkeys(
        ["div_no_rounding_mode", "reciprocal", "sqrt", "rsqrt", "exp", "log", "sin", "cos"], FUNCTIONS + C64
    ),
    **dict.fromkeys(["floor", "ceil", "round", "trunc"], REALS),
    **dict.fromkeys(
        ["atan2", "xlogy", "exp2", "expm1", "log2", "log10", "log1p", "tan", "asin", "acos", "atan"], FUNCTIONS
    ),
    **dict.fromkeys(["sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "lgamma", "sigmoid"], FUNCTIONS),
    **dict.fromkeys(["lerp", "addcdiv"], FLOATS + C64),
    **dict.fromkeys(["isnan", "angle"], FLOATS + C64),
    **dict.fromkeys(
        ["hypot", "copysign", "logaddexp", "frac", "nan_to_num", "isposinf", "isneginf", "signbit"], FLOATS
    ),
    **dict.fromkeys(["complex", "polar", "nn_functional_hardsigmoid"], (torch.float32,)),
    **dict.fromkeys([f"nn_functional_{name}" for name in ("relu", "hardtanh", "threshold")], REALS),
    **dict.fromkeys(
        [
            f"nn_functional_{name}"
            for name in (
                "leaky_relu",
                "elu",
                "silu",
                "gelu",
                "mish",
                "softplus",
                "hardswish",
                "logsigmoid",
            )
        ],
        FLOATS,
    ),
}


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_pytorchs_suite(name, dtype):
    check(name, dtype, most=4)


def test_every_entry_is_one_of_opinfos():
    assert len(entries(OPS)) > 400


LAYOUTS = {
    "dense": lambda t: t,
    "transposed": lambda t: t.transpose(-1, -2),
    "every second": lambda t: t[..., ::2],
    "parts of rows": lambda t: t[:, 16:],
    "off the alignment": lambda t: t.flatten()[1:],
    "one value": lambda t: t[:1, :1],
    "empty": lambda t: t[:0],
    "broadcast": lambda t: t[:, :1].expand(-1, 40),
    "seven dimensions": lambda t: t[:24, :32].reshape(2, 3, 4, 2, 2, 4, 2).permute(6, 0, 5, 1, 4, 2, 3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.complex64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    """Values, and the strides of results, are the CPU's."""
    x = (reference.values(37, 48) * 50).to(dtype)
    there = LAYOUTS[layout](on_card(x)[0])
    here = LAYOUTS[layout](x)
    for function in (
        lambda t: t * t + 1,
        lambda t: t + t[:1],
        lambda t: t * t[..., :1],
        lambda t: t + t.flip(0).contiguous().to(torch.float32),
        torch.Tensor.contiguous,
    ):
        want, got = function(here), function(there)
        assert got.stride() == want.stride()
        torch.testing.assert_close(got.cpu(), want)


@pytest.mark.parametrize(
    "to", [torch.float32, torch.float16, torch.bfloat16, torch.float64, *INTS_B, torch.complex64], ids=str
)
@pytest.mark.parametrize(
    "of", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str
)
def test_casts(of, to):
    x = torch.tensor([0, 1, 2.5, 100, 3, 0.25, 7]).to(of)
    reset()
    assert torch.equal(on_card(x)[0].to(to).cpu(), x.to(to))
    if of != to:
        only_ours()


def test_special_values():
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0])
    (there,) = on_card(x)
    functions = (
        *(torch.relu, torch.abs, torch.sign, torch.exp, torch.nan_to_num, torch.isnan, torch.isinf, torch.isfinite),
        lambda t: t.clamp(-1, 1),
        lambda t: torch.maximum(t, t.new_zeros(())),
        lambda t: t.masked_fill(t > 0, -math.inf),
        lambda t: torch.where(t > 0, t, 0),
        lambda t: torch.where(t > 0, 1, 0.5),
    )
    for function in functions:
        assert torch.equal(function(there).cpu().nan_to_num(3), function(x).nan_to_num(3))


def test_copies_that_convert_on_their_way():
    x = reference.values(6, 10)
    (there,) = on_card(x)
    reset()
    into = torch.zeros(10, 6, dtype=torch.float64)
    into.t().copy_(there)
    assert torch.equal(into.t(), x.double())
    there.t().copy_(x.t().to(torch.float64)[:, ::1])
    assert torch.equal(there.cpu(), x)
    conjugate = torch.complex(x, x + 1).conj()
    assert torch.equal(on_card(conjugate.resolve_conj())[0].conj().resolve_conj().cpu(), conjugate.conj())
    only_ours()


def test_the_cpus_tensors_of_no_dimensions():
    x = reference.values(5, 7)
    (there,) = on_card(x)
    reset()
    assert torch.equal((there * torch.tensor(2.5)).cpu(), x * 2.5)
    assert torch.equal((torch.tensor(3) - there).cpu(), 3 - x)
    only_ours()


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a + a[:, :3],
        lambda a: a[:1].add_(a),
        lambda a: a.to(torch.bool) - a.to(torch.bool),
        lambda a: a.to(torch.int32).div_(2),
        lambda a: torch.add(a.to(torch.int32), 1, alpha=0.5),
        lambda a: a[:, :1].expand(-1, 8).add_(1),
        lambda a: a.to(torch.int32) ** -1,
    ],
    ids=["sizes", "in place", "bool", "safe cast", "alpha", "overlap", "power"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(5, 8)
    with pytest.raises(RuntimeError) as on_cpu:
        call(x)
    with pytest.raises(RuntimeError) as on_the_card:
        call(*on_card(x))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]


@pytest.mark.skipif(not fakecard.here(), reason="counts launches")
def test_zeros_and_dense_copies_start_no_kernel():
    x = on_card(reference.values(20, 30))[0]
    reset()
    x.clone().zero_()
    torch.zeros(5, device=x.device)
    assert not fakecard.counters()["launched"]


def test_an_optimizer_takes_no_step_on_the_cpu():
    weights = [reference.values(20, 30), reference.values(30)]
    sides = [[torch.nn.Parameter(w.clone()) for w in weights], [torch.nn.Parameter(w) for w in on_card(*weights)]]
    for side in sides:
        optimizer = torch.optim.AdamW(side, lr=0.1, foreach=True)
        for _ in range(3):
            for i, p in enumerate(side):
                p.grad = (p.detach() * 0.5 + i).clone()
            bc.reset_fallbacks()
            optimizer.step()
    assert {line.op for line in bc.fallbacks().lines} <= {"aten::copy_"}
    for here, there in zip(*sides, strict=True):
        torch.testing.assert_close(there.detach().cpu(), here.detach())


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_shifts_by_numbers(dtype):
    """As four-bit weights are unpacked."""
    x = torch.arange(120).to(dtype)
    (there,) = on_card(x)
    reset()
    bc.reset_fallbacks()
    got = [there >> 4, there << 2, there.clone().__irshift__(3), there.clone().__ilshift__(1), there & 15]
    only_ours()
    assert not {line.op for line in bc.fallbacks().lines if "shift" in line.op}
    for result, want in zip(got, [x >> 4, x << 2, x >> 3, x << 1, x & 15], strict=True):
        assert result.dtype == dtype
        assert torch.equal(result.cpu(), want)
