"""The normalisations' kernels as the emulator runs them, against float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded
from teams import COLUMN_BYTES, COLUMN_THREADS, TEAM_BYTES, columns_of, row_blocks, rows_are_packs, team_of

THREADS = 256


class Params(ctypes.Structure):
    """NormParams of csrc/kernels/norm.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in_", "grad", "weight", "bias", "mean", "rstd")),
        *((name, ctypes.c_void_p) for name in ("out", "out_mean", "out_rstd", "running_mean", "running_var")),
        *((name, ctypes.c_void_p) for name in ("mean_grad", "mean_dot", "sum_grad", "sum_dot")),
        *((name, ctypes.c_void_p) for name in ("grad_weight", "grad_bias")),
        *((name, ctypes.c_longlong) for name in ("samples", "channels", "inner", "groups", "rows", "n", "part")),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
        *((name, ctypes.c_int) for name in ("team", "columns")),
        *((name, ctypes.c_bool) for name in ("packs", "centered", "per_sample", "channels_last", "of_variance")),
        *((name, ctypes.c_bool) for name in ("wide_weight", "wide_statistics")),
    )


POINTERS = {name for name, kind in Params._fields_ if kind is ctypes.c_void_p}


@pytest.fixture(scope="module")
def card():
    return emulator.load(800)


class Case:
    """(samples, channels, inner) values with their statistics; of layers, channels are the layer."""

    def __init__(self, dtype, samples, channels, inner, groups, eps=1e-3):
        self.name, self.dtype = dtype, DTYPES[dtype]
        self.wide = torch.promote_types(self.dtype, torch.float32)
        self.sizes = {"samples": samples, "channels": channels, "inner": inner, "groups": groups}
        shape = (samples, channels, inner)
        self.x = guarded((reference.values(*shape, dtype=torch.float64) * 2 + 1).to(self.dtype))
        self.grad = guarded(reference.values(*shape, dtype=self.dtype, seed=1))
        self.w, self.b = (guarded(reference.values(channels, dtype=self.dtype, seed=seed)) for seed in (2, 3))
        self.eps = eps
        rows = self.x.double().reshape(samples * groups, -1)
        self.mean = rows.mean(1)
        self.rstd = (rows.var(1, correction=0) + eps).rsqrt()

    def spread(self, statistic):
        """To every value: of a sample's group."""
        samples, channels, inner, groups = self.sizes.values()
        return (
            statistic.view(samples, groups, 1)
            .expand(-1, -1, channels // groups * inner)
            .reshape(samples, channels, inner)
        )

    def normal(self):
        return (self.x.double() - self.spread(self.mean)) * self.spread(self.rstd)

    def made(self, *shape, dtype=None):
        return guarded(torch.full(shape, float("nan"), dtype=dtype or self.wide))

    def launch(self, card, what, blocks, threads, shared_bytes=0, **values):
        values = {"in": self.x, "grad": self.grad, "weight": self.w, **self.sizes, **values}
        p = Params(eps=self.eps, per_sample=True, wide_statistics=True, centered=True)
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                setattr(p, "in_" if name == "in" else name, value.data_ptr())
            elif value is not None:
                setattr(p, name, value)
        card.launch(f"compat_norm_{what}_{self.name}", blocks, threads, shared_bytes, p)

    def over_rows(self, card, what, rows, n, **values):
        team, packs = team_of(n, self.x.element_size()), rows_are_packs(self.x, n)
        self.launch(card, what, *row_blocks(rows, team), TEAM_BYTES, rows=rows, n=n, team=team, packs=packs, **values)

    def over_elements(self, card, what, **values):
        packs = rows_are_packs(self.x, self.sizes["channels"] if values.get("channels_last") else self.sizes["inner"])
        threads = self.x.numel() // (16 // self.x.element_size() if packs else 1)
        self.launch(card, what, ceil_div(threads, THREADS), THREADS, packs=packs, **values)

    def rounded(self, t):
        return guarded(t.to(self.wide))


def close(got, want, dtype=None):
    """But for roundings: of the result, and of sums in float32."""
    eps = max(torch.finfo(dtype or got.dtype).eps, 0)
    size = max(1.0, want.abs().max().item())
    torch.testing.assert_close(
        got.double(), want.view(got.shape), rtol=4 * eps, atol=32 * size * torch.finfo(got.dtype).eps
    )


SIZES = [  # samples, channels, inner, groups
    (5, 48, 1, 1),  # layers, with packs and without
    (7, 33, 1, 1),
    (1, 8200, 1, 1),  # more than there are registers
    (2, 12, 8, 3),
    (3, 6, 7, 2),
    (1, 4, 2200, 1),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rows(card, dtype, sizes):
    case = Case(dtype, *sizes)
    samples, channels, inner, groups = sizes
    rows, n = samples * groups, channels // groups * inner
    out, mean, rstd = case.made(*case.x.shape, dtype=case.dtype), case.made(rows), case.made(rows)
    case.over_rows(card, "rows", rows, n, bias=case.b, out=out, out_mean=mean, out_rstd=rstd)
    want = case.normal() * case.w.double()[:, None] + case.b.double()[:, None]
    close(out, want)
    close(mean, case.mean)
    close(rstd, case.rstd)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_mean(card, dtype):
    case = Case(dtype, 5, 48, 1, 1)
    out, rstd = case.made(5, 48, 1, dtype=case.dtype), case.made(5)
    case.over_rows(card, "rows", 5, 48, out=out, out_rstd=rstd, centered=False)
    x = case.x.double()
    want = (x.pow(2).mean(1) + case.eps).rsqrt()
    close(rstd, want)
    close(out, x * want[:, None] * case.w.double()[:, None])


def input_grad(case):
    g = case.grad.double() * case.w.double()[:, None]
    normal = case.normal()
    rows = (case.sizes["samples"] * case.sizes["groups"], -1)
    mean, dot = g.reshape(rows).mean(1), (g * normal).reshape(rows).mean(1)
    return case.spread(case.rstd) * (g - case.spread(mean) - normal * case.spread(dot)), mean, dot


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_of_rows(card, dtype, sizes):
    case = Case(dtype, *sizes)
    samples, channels, inner, groups = sizes
    out = case.made(*case.x.shape, dtype=case.dtype)
    statistics = {"mean": case.rounded(case.mean), "rstd": case.rounded(case.rstd)}
    case.over_rows(card, "grad_rows", samples * groups, channels // groups * inner, out=out, **statistics)
    close(out, input_grad(case)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("samples", "channels", "parts"), [(70, 33, 1), (70, 33, 3), (3, 300, 1)])
def test_gradients_of_columns(card, dtype, samples, channels, parts):
    """From parts of the rows to the parameters."""
    case = Case(dtype, samples, channels, 1, 1)
    columns = columns_of(samples)
    sum_grad, sum_dot = case.made(parts, channels), case.made(parts, channels)
    case.launch(
        *(card, "grad_columns", ceil_div(channels, columns) * parts, COLUMN_THREADS, COLUMN_BYTES),
        rows=samples,
        n=channels,
        part=ceil_div(samples, parts),
        columns=columns,
        mean=case.rounded(case.mean),
        rstd=case.rounded(case.rstd),
        sum_grad=sum_grad,
        sum_dot=sum_dot,
    )
    of_weight, of_bias = case.made(channels, dtype=case.dtype), case.made(channels, dtype=case.dtype)
    case.launch(
        *(card, "grad_parameters", ceil_div(channels, THREADS), THREADS),
        rows=parts,
        sum_grad=sum_grad,
        sum_dot=sum_dot,
        grad_weight=of_weight,
        grad_bias=of_bias,
    )
    close(of_bias, case.grad.double().sum((0, 2)))
    close(of_weight, (case.grad.double() * case.normal()).sum((0, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(2, 12, 8, 3), (3, 6, 7, 2), (1, 3, 8200, 3)], ids=str)
def test_large_groups(card, dtype, sizes):
    """Forward and backward over elements, from statistics and sums of channels."""
    case = Case(dtype, *sizes)
    samples, channels, inner, groups = sizes
    given = {"mean": case.rounded(case.mean), "rstd": case.rounded(case.rstd)}
    out = case.made(*case.x.shape, dtype=case.dtype)
    case.over_elements(card, "apply", bias=case.b, out=out, **given)
    close(out, case.normal() * case.w.double()[:, None] + case.b.double()[:, None])
    sums = {name: case.made(samples, channels) for name in ("sum_grad", "sum_dot")}
    case.over_rows(card, "grad_sums", samples * channels, inner, **given, **sums)
    close(sums["sum_grad"], case.grad.double().sum(2))
    close(sums["sum_dot"], (case.grad.double() * case.normal()).sum(2))
    means = {name: case.made(samples * groups) for name in ("mean_grad", "mean_dot")}
    case.launch(card, "grad_means", 1, THREADS, **sums, **means)
    want, mean, dot = input_grad(case)
    close(means["mean_grad"], mean)
    close(means["mean_dot"], dot)
    case.over_elements(card, "grad_apply", out=out, **given, **means)
    close(out, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("samples", "channels", "inner"), [(3, 16, 8), (2, 5, 7)])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_batches(card, dtype, samples, channels, inner, last):
    """A statistic for each channel, here a running variance, with parameters in float32."""
    case = Case(dtype, samples, channels, inner, channels)
    x = case.x
    case.x = guarded(x.transpose(1, 2).contiguous()) if last else x
    mean, variance = (
        case.rounded(reference.values(channels, seed=5)),
        case.rounded(reference.values(channels, seed=6).abs()),
    )
    weight, bias = case.rounded(case.w), case.rounded(case.b)
    out = case.made(*case.x.shape, dtype=case.dtype)
    what = {"weight": weight, "bias": bias, "mean": mean, "rstd": variance, "of_variance": True, "wide_weight": True}
    case.over_elements(card, "apply", out=out, per_sample=False, channels_last=last, **what)
    got = out.transpose(1, 2) if last else out
    m, v, w, b = (t.double()[:, None] for t in (mean, variance, weight, bias))
    close(got.contiguous(), (x.double() - m) / (v + case.eps).sqrt() * w + b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [False, True])
def test_running_statistics(card, dtype, wide):
    case = Case(dtype, 1, 300, 1, 300)
    mean, variance = case.rounded(reference.values(300, seed=1)), case.rounded(reference.values(300, seed=2).abs())
    of = case.wide if wide else case.dtype
    running = [guarded(reference.values(300, seed=seed).abs().to(of)) for seed in (3, 4)]
    n = 11
    want = [
        0.9 * running[0].double() + 0.1 * mean.double(),
        0.9 * running[1].double() + 0.1 * variance.double() * n / (n - 1),
        (variance.double() + case.eps).rsqrt(),
    ]
    case.launch(
        *(card, "running", 2, THREADS),
        out_mean=mean,
        out_rstd=variance,
        running_mean=running[0],
        running_var=running[1],
        n=n,
        momentum=0.1,
        wide_weight=wide,
    )
    for got, exact in zip((*running, variance), want, strict=True):
        close(got, exact)
