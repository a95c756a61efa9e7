"""conv2d as the emulator runs it for each generation of cards, against float64: no card, no torch of CUDA."""

import ctypes
from dataclasses import dataclass

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded, threads_of

ARCHITECTURES = (500, 800)
STRIDES = ("input_batch", "input_channel", "input_row", "input_column", "out_batch", "out_channel", "out_position")
WEIGHTS = ("weight_group", "weight_out", "weight_tap", "weight_channel", "bias_stride")
COUNTS = ("batch", "groups", "in_channels", "out_channels", "height", "width", "out_height", "out_width")
F = torch.nn.functional


class Params(ctypes.Structure):
    """Conv2dParams of csrc/kernels/conv2d.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input", "weight", "bias", "out", "partial")),
        *((name, ctypes.c_longlong) for name in (*STRIDES, *WEIGHTS)),
        *((name, ctypes.c_int) for name in COUNTS),
        *((name, ctypes.c_int * 2) for name in ("kernel", "stride", "padding", "dilation")),
        ("transposed", ctypes.c_int),
        *((name, ctypes.c_uint) for name in ("row_tiles", "column_tiles", "splits")),
    )


class PackParams(ctypes.Structure):
    """Conv2dPackParams of csrc/kernels/conv2d.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input", "out")),
        *((name, ctypes.c_longlong) for name in ("in_batch", "in_channel", "in_position", "in_row", "positions")),
        *((name, ctypes.c_int) for name in ("batch", "width", "groups", "channels", "padded")),
    )


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda arch: f"sm_{arch // 10}")
def arch(request):
    return request.param


@dataclass
class Case:
    size: tuple[int, int] = (7, 9)
    kernel: tuple[int, int] = (3, 2)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    batch: int = 2
    groups: int = 1
    channels: int = 16  # of a group, in
    outputs: int = 24  # of a group
    transposed: bool = False

    def options(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def tensors(self, dtype):
        x = reference.values(self.batch, self.groups * self.channels, *self.size, dtype=dtype, seed=1)
        shape = (self.channels, self.outputs) if self.transposed else (self.outputs, self.channels)
        w = reference.values(self.groups * shape[0], shape[1], *self.kernel, dtype=dtype, seed=2)
        return x, w, guarded(reference.values(self.groups * self.outputs, dtype=dtype, seed=3))

    def want(self, x, w, b):
        return (F.conv_transpose2d if self.transposed else F.conv2d)(x, w, b, **self.options())


CASES = {
    "plain": Case(),
    "groups": Case(groups=3, outputs=5, padding=(1, 1)),
    "strides": Case(stride=(2, 3), padding=(2, 1), dilation=(1, 2)),
    "wide": Case(batch=1, outputs=150, size=(12, 13), channels=40),
    "transposed": Case(transposed=True),
    "transposed strides": Case(transposed=True, stride=(2, 3), padding=(1, 0), dilation=(1, 2), groups=2),
}


def params(case, x, out, b, channels_last):
    n, c, height, width = out.shape
    p = Params(out=out.data_ptr(), bias=b.data_ptr(), bias_stride=1, out_batch=c * height * width)
    p.out_channel, p.out_position = (1, c) if channels_last else (height * width, 1)
    p.batch, p.groups, p.in_channels, p.out_channels = n, case.groups, case.channels, case.outputs
    (p.height, p.width), p.out_height, p.out_width = case.size, height, width
    for axis in range(2):
        for name in ("kernel", "stride", "padding", "dilation"):
            getattr(p, name)[axis] = getattr(case, name)[axis]
    p.transposed = case.transposed
    return p


def empty(want, dtype, channels_last):
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    n, c, height, width = want.shape
    shape = (n, height, width, c) if channels_last else want.shape
    out = guarded(torch.full(shape, float("nan"), dtype=dtype).view(integers).view(dtype))
    return out.permute(0, 3, 1, 2) if channels_last else out


def check(case, dtype, got, x, w, b):
    exact = case.want(*(t.double() for t in (x, w, b)))
    reference.assert_rounded(got, exact, case.want(*(t.double().abs() for t in (x, w, b))))


def tiles(arch, case, dtype, size, splits=1, channels_last=False):
    torch_dtype = DTYPES[dtype.removeprefix("t")]
    x, w, b = case.tensors(torch_dtype)
    if dtype == "tf32":
        x, w = x.bfloat16().float(), w.bfloat16().float()
    packed_x = guarded(x.permute(0, 2, 3, 1).contiguous())
    of_groups = w.unflatten(0, (case.groups, -1))  # transposed: (groups, channels, outputs, ...)
    order = (0, 2, 3, 4, 1) if case.transposed else (0, 1, 3, 4, 2)
    packed_w = guarded(of_groups.permute(order).flatten(2, 3).contiguous())
    out = empty(case.want(x, w, b), torch_dtype, channels_last)
    p = params(case, x, out, b, channels_last)
    p.input, p.weight = packed_x.data_ptr(), packed_w.data_ptr()
    p.input_batch, p.input_row, p.input_column = packed_x.stride()[:3]
    p.input_channel = case.channels
    p.weight_group, p.weight_out, p.weight_tap, p.weight_channel = packed_w.stride()
    p.row_tiles, p.column_tiles = ceil_div(out.numel() // out.shape[1], size), ceil_div(case.outputs, size)
    p.splits = splits
    sums = torch.float64 if dtype == "f64" else torch.float32
    partial = guarded(torch.full((splits * out.numel(),), float("nan"), dtype=sums))
    p.partial = partial.data_ptr() if splits > 1 else None
    card = emulator.load(arch)
    shared = (3 if arch >= 800 else 2) * 2 * size * 80
    threads = threads_of(dtype, arch, size, size) * (2 if dtype == "f64" else 1)
    card.launch(f"compat_conv2d_{dtype}_{size}", p.row_tiles * p.column_tiles * p.groups * splits, threads, shared, p)
    if splits > 1:
        card.launch(f"compat_conv2d_reduce_{dtype.removeprefix('t')}", ceil_div(out.numel(), 256), 256, 0, p)
    check(case, torch_dtype, out, x, w, b)
    return out


@pytest.mark.parametrize("dtype", ["f32", "tf32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("name", CASES)
def test_tiles(arch, dtype, name):
    for size in (64,) if dtype == "f64" or name != "wide" else (64, 128):
        tiles(arch, CASES[name], dtype, size, channels_last=name == "groups")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_split_sums_are_added_in_order(arch, dtype, channels_last):
    case = Case(channels=40, groups=2, outputs=7, padding=(1, 1))
    assert torch.equal(*(tiles(arch, case, dtype, 64, 3, channels_last) for _ in range(2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_direct(arch, dtype, name, channels_last):
    case = CASES[name]
    x, w, b = case.tensors(DTYPES[dtype])
    x, w = guarded(x), guarded(w)
    out = empty(case.want(x, w, b), x.dtype, channels_last)
    p = params(case, x, out, b, channels_last)
    p.input, p.weight = x.data_ptr(), w.data_ptr()
    p.input_batch, p.input_channel, p.input_row, p.input_column = x.stride()
    p.weight_group, p.weight_tap = w.shape[0] // case.groups * w.stride(0), 1
    p.weight_out, p.weight_channel = (w.stride(1), w.stride(0)) if case.transposed else w.stride()[:2]
    emulator.load(arch).launch(f"compat_conv2d_direct_{dtype}", ceil_div(out.numel(), 256), 256, 0, p)
    check(case, x.dtype, out, x, w, b)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(("channels", "padded"), [(3, 8), (40, 40), (33, 36)])
def test_pack(dtype, channels, padded):
    whole = reference.values(2, 2 * channels, 5, 14, dtype=dtype)
    x = torch.from_numpy(emulator.buffer(whole.numpy()))[..., ::2]
    out = torch.from_numpy(emulator.buffer(torch.full((2, 35, 2, padded), 99, dtype=dtype).numpy()))
    p = PackParams(input=x.data_ptr(), out=out.data_ptr(), positions=35, batch=2, width=7, groups=2)
    p.in_batch, p.in_channel, p.in_row, p.in_position = x.stride()
    p.channels, p.padded = channels, padded
    blocks = ceil_div(padded, 32) * ceil_div(35, 32) * 4
    name = f"compat_conv2d_pack_{dtype.itemsize}"
    emulator.load(800).launch(name, blocks, 256, 32 * 33 * dtype.itemsize, p)
    want = F.pad(x.unflatten(1, (2, channels)).flatten(3).permute(0, 3, 1, 2), (0, padded - channels))
    assert torch.equal(out, want)
