"""Launches of conv1d on the emulator, from torch tensors; the numbers follow csrc/common/conv_cuda.cpp."""

import ctypes
import math
from dataclasses import dataclass

import emulator
import torch
from products import ceil_div, guarded, threads_of

POINTERS, LENGTHS = ("input", "weight", "bias", "residual", "out", "partial"), ("in_length", "out_length")
STRIDES = tuple(f"{name}_{axis}" for name in ("input", "out", "residual") for axis in ("batch", "channel", "position"))
WIDE = ("bias_stride", "weight_group", "weight_out", "weight_tap", "weight_channel", "padding")
COUNTS = ("batch", "groups", "in_channels", "out_channels", "kernel", "phases", "stride", "tap_step", "transposed")
WINDOW = ("window_rows", "window_taps", "share", "tap_lines", "vectors")
TILES, ACTIVATIONS = ("row_tiles", "column_tiles", "splits"), ("pre_activation", "activation")
GRAD_STRIDES = tuple(f"{name}_{axis}" for name in ("shorter", "longer") for axis in ("batch", "channel", "position"))
GRAD_COUNTS = ("batch", "groups", "shorter_channels", "longer_channels", "kernel", "stride", "dilation")


def fields(kind: type, *names: str) -> tuple[tuple[str, type], ...]:
    return tuple((name, kind) for name in names)


class Params(ctypes.Structure):
    """Conv1dParams of csrc/kernels/conv1d.cuh."""

    _fields_ = (
        *fields(ctypes.c_void_p, *POINTERS),
        *fields(ctypes.c_longlong, *LENGTHS, *STRIDES, *WIDE),
        *fields(ctypes.c_int, *COUNTS, "dilation", "cycle", "common", "inverse", *WINDOW),
        *fields(ctypes.c_uint, *TILES),
        *fields(ctypes.c_int, *ACTIVATIONS),
        *fields(ctypes.c_double, "pre_slope", "slope"),
    )


class PackParams(ctypes.Structure):
    """Conv1dPackParams."""

    _fields_ = (
        *fields(ctypes.c_void_p, "source", "out"),
        *fields(ctypes.c_longlong * 4, "size", "stride"),
        ("valid", ctypes.c_longlong),
    )


class GradParams(ctypes.Structure):
    """Conv1dGradParams."""

    _fields_ = (
        *fields(ctypes.c_void_p, "shorter", "longer", "out", "partial"),
        *fields(ctypes.c_longlong, "shorter_length", "longer_length", *GRAD_STRIDES, "padding"),
        *fields(ctypes.c_int, *GRAD_COUNTS),
        *fields(ctypes.c_uint, *TILES),
    )


def sums(t: torch.Tensor, splits: int) -> torch.Tensor:
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    return guarded(torch.full((splits * t.numel(),), float("nan"), dtype=dtype))


def laid(values: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """(N, C, L) in memory that ends where the tensor ends."""
    return guarded(values.transpose(1, 2).contiguous()).transpose(1, 2) if channels_last else guarded(values)


@dataclass
class Convolution:
    """One convolution: input (N, C_in, L), weight as PyTorch has it, plain or transposed."""

    kernel: str
    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    output_padding: int = 0
    splits: int = 1
    window_taps: int = 99
    pre_activation: int = 0
    activation: int = 0
    slope: float = 0.0
    channels_last: bool = False  # the result

    def by_torch(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The convolution itself, by PyTorch."""
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        if self.transposed:
            options["output_padding"] = self.output_padding
            return torch.nn.functional.conv_transpose1d(x, weight, bias, **options)
        return torch.nn.functional.conv1d(x, weight, bias, **options)

    def run(self, card: emulator.Emulator) -> torch.Tensor:
        x, weight, (direct, dtype, rows, columns) = self.input, self.weight, self.named()
        like = self.by_torch(x.to("meta"), weight.to("meta"), None)
        batch, channels, length = like.shape
        out = laid(torch.full(like.shape, float("nan"), dtype=x.dtype), self.channels_last)
        common = math.gcd(self.stride, self.dilation)
        p = Params(
            input=x.data_ptr(),
            out=out.data_ptr(),
            in_length=x.shape[2],
            out_length=length,
            padding=self.padding,
            batch=batch,
            groups=self.groups,
            in_channels=x.shape[1] // self.groups,
            out_channels=channels // self.groups,
            kernel=weight.shape[2],
            phases=self.stride if self.transposed else 1,
            stride=1 if self.transposed else self.stride,
            tap_step=self.dilation // common if self.transposed else self.dilation,
            transposed=self.transposed,
            dilation=self.dilation,
            cycle=self.stride // common,
            common=common,
            inverse=pow(self.dilation // common, -1, self.stride // common) if self.stride > common else 0,
            pre_activation=self.pre_activation,
            activation=self.activation,
            pre_slope=self.slope,
            slope=self.slope,
        )
        p.input_batch, p.input_channel, p.input_position = x.stride()
        p.out_batch = channels * length
        p.out_channel, p.out_position = (1, channels) if self.channels_last else (length, 1)
        if self.bias is not None:
            p.bias, p.bias_stride = self.bias.data_ptr(), self.bias.stride(0)
        if self.residual is not None:
            p.residual = self.residual.data_ptr()
            p.residual_batch, p.residual_channel, p.residual_position = self.residual.stride()
        of_group, (first, second, tap) = weight.shape[0] // self.groups, weight.stride()
        shape = (p.groups, p.out_channels, p.kernel, p.in_channels)
        inner = (second, tap, first) if self.transposed else (first, tap, second)
        by_output = weight.as_strided(shape, (of_group * first, *inner))
        positions = ceil_div(length, p.phases)
        if direct:
            packed = (
                by_output if columns == 1 else self.pack(card, by_output.permute(0, 2, 3, 1), 8).permute(0, 3, 1, 2)
            )
            p.row_tiles, p.column_tiles = ceil_div(positions, 4), p.groups * ceil_div(p.out_channels, columns)
        else:
            packed = self.pack(card, by_output, 16 // x.element_size())
            p.row_tiles, p.column_tiles = ceil_div(positions, rows), ceil_div(p.out_channels, columns)
        p.weight = packed.data_ptr()
        p.weight_group, p.weight_out, p.weight_tap, p.weight_channel = packed.stride()
        grid = p.row_tiles * p.column_tiles * p.phases * batch
        if direct:
            accumulator = 8 if dtype == "f64" else 4
            card.launch(self.kernel, ceil_div(grid, 128), 128, 128 * 4 * columns * accumulator, p)
            return out
        aligned = all(n * x.element_size() % 16 == 0 for n in (p.in_channels, p.input_batch, p.input_position))
        p.vectors = p.input_channel == 1 and aligned and p.input % 16 == 0
        taps = ceil_div(p.kernel, p.cycle) if self.transposed else p.kernel
        between = math.gcd(p.stride, p.tap_step)
        p.share, p.tap_lines = p.stride // between, p.tap_step // between
        p.window_taps = min(ceil_div(taps, p.share), self.window_taps)
        p.window_rows = rows + (p.window_taps - 1) * p.tap_lines
        p.splits = self.splits
        partial = sums(out, self.splits) if self.splits > 1 else None
        if partial is not None:
            p.partial = partial.data_ptr()
        threads = threads_of(dtype, card.arch, rows, columns) * (2 if dtype == "f64" else 1)
        shared = (2 * p.window_rows + (3 if card.arch in (800, 900, 1000, 1030) else 2) * columns) * 80
        card.launch(self.kernel, grid * p.groups * p.splits, threads, shared, p)
        if partial is not None:
            name = f"compat_conv1d_reduce_{dtype.removeprefix('t')}"
            card.launch(name, ceil_div(out.numel(), 256), 256, 0, p)
        return out

    def named(self) -> tuple[bool, str, int, int]:
        parts = self.kernel.removeprefix("compat_conv1d_").split("_")
        sides = [int(side) for side in parts[-1].split("x")]
        return parts[0] == "direct", parts[-2], sides[0], sides[-1]

    @staticmethod
    def pack(card: emulator.Emulator, t: torch.Tensor, multiple: int) -> torch.Tensor:
        size = (*t.shape[:3], ceil_div(t.shape[3], multiple) * multiple)
        out = guarded(torch.full(size, float("nan"), dtype=t.dtype))
        p = PackParams(t.data_ptr(), out.data_ptr(), size, t.stride(), t.shape[3])
        card.launch(f"compat_conv1d_pack_{t.element_size()}", ceil_div(out.numel(), 256), 256, 0, p)
        return out


@dataclass
class WeightGradient:
    """The gradient of a weight of `size`."""

    kernel: str
    shorter: torch.Tensor
    longer: torch.Tensor | None
    size: tuple[int, int, int]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    splits: int = 1

    def run(self, card: emulator.Emulator) -> torch.Tensor:
        a, b = self.shorter, self.longer
        out = guarded(torch.full(self.size, float("nan"), dtype=a.dtype))
        p = GradParams(
            shorter=a.data_ptr(),
            out=out.data_ptr(),
            shorter_length=a.shape[2],
            longer_length=a.shape[2],
            padding=self.padding,
            batch=a.shape[0],
            groups=self.groups,
            shorter_channels=self.size[0] // self.groups,
            longer_channels=self.size[1],
            kernel=self.size[2],
            stride=self.stride,
            dilation=self.dilation,
        )
        p.shorter_batch, p.shorter_channel, p.shorter_position = a.stride()
        if b is not None:
            p.longer, p.longer_length = b.data_ptr(), b.shape[2]
            p.longer_batch, p.longer_channel, p.longer_position = b.stride()
        dtype = self.kernel.split("_")[-1]
        if "direct" in self.kernel:
            card.launch(self.kernel, out.numel(), 256, 256 * (8 if dtype == "f64" else 4), p)
            return out
        p.row_tiles, p.column_tiles = ceil_div(p.shorter_channels, 64), ceil_div(p.longer_channels, 64)
        p.splits = self.splits
        partial = sums(out, self.splits)
        if self.splits > 1:
            p.partial = partial.data_ptr()
        card.launch(self.kernel, p.row_tiles * p.column_tiles * p.groups * p.kernel * p.splits, 128, 2 * 128 * 80, p)
        if self.splits == 1:
            return out
        return partial.view(self.splits, *self.size).sum(0).to(out.dtype)
