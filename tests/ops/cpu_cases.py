"""Cases for the CPU's instruction sets; run as a program, it computes them in its process: cpu_cases.py results.pt

There the tensors lie against a page that nobody may touch: whoever reads over their edge ends the process.
"""

import ctypes
import functools
import mmap
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import blackwell_compat as bc
import reference
import torch
from torch.nn import functional as F

OPS = {
    "linear": (bc.compat_linear, F.linear),
    "conv1d": (bc.compat_conv1d, F.conv1d),
    "conv_transpose1d": (bc.compat_conv_transpose1d, F.conv_transpose1d),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

# op, sizes of input and weight, options
CASES = [
    ("linear", (1, 300), (500, 300), {}),
    ("linear", (29, 131), (33, 131), {}),
    ("linear", (13, 65), (50, 65), {"activation": "leaky_relu"}),
    ("linear", (200, 9), (7, 9), {"activation": "gelu"}),
    ("conv1d", (2, 20, 157), (24, 20, 5), {"padding": 2, "pre_activation": "leaky_relu"}),
    ("conv1d", (1, 40, 157), (35, 40, 3), {"padding": 1}),
    ("conv1d", (1, 33, 301), (32, 33, 7), {"dilation": 3, "activation": "relu"}),
    ("conv1d", (1, 36, 101), (40, 36, 8), {"dilation": 2}),
    ("conv1d", (2, 50, 157), (3, 50, 7), {"activation": "tanh"}),
    ("conv1d", (2, 19, 157), (19, 1, 5), {"groups": 19, "padding": 2}),
    ("conv1d", (2, 24, 157), (36, 6, 5), {"groups": 4, "stride": 2}),
    ("conv_transpose1d", (2, 20, 57), (20, 9, 7), {"stride": 3}),
    ("conv_transpose1d", (1, 64, 57), (64, 17, 8), {"stride": 2, "padding": 3}),
]
# n_fft, hop_length
TRANSFORMS = [(20, 5), (49, 12), (100, 50), (143, 40), (400, 160), (512, 64), (1024, 256), (1920, 480)]


def signal(n_fft, dtype):
    return reference.values(n_fft * 12).to(dtype)


def round_trip(stft, istft, x, n_fft, hop, place=lambda t: t):
    """(spectrum, the signal from it). `place` copies a tensor to where it should lie."""
    window = place(torch.hann_window(n_fft, dtype=x.dtype))
    spectrum = stft(place(x), n_fft, hop, window=window, return_complex=True)
    return spectrum, istft(place(spectrum), n_fft, hop, window=window)


def arguments(case, dtype):
    op, x, w, kwargs = case
    c_out = w[1] if op == "conv_transpose1d" else w[0]
    tensors = reference.values(*x), reference.values(*w, seed=1), reference.values(c_out, seed=2)
    return tuple(t.to(dtype) for t in tensors), kwargs


def composed(op, x, w, b, pre_activation=None, activation=None, **kwargs):
    """torch's own operator, with the activations beside it."""
    functions = {None: lambda t: t, "leaky_relu": F.leaky_relu, "relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}
    return functions[activation](OPS[op][1](functions[pre_activation](x), w, b, **kwargs))


def fenced(t, behind):
    """A copy of `t` that ends where the forbidden page begins; without `behind`, one that begins where it ends."""
    size = t.numel() * t.element_size()
    space = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, space + mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fence = begin + space if behind else begin
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(fence, mmap.PAGESIZE, 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    offset = space - size if behind else mmap.PAGESIZE
    return torch.frombuffer(memory, dtype=t.dtype, count=t.numel(), offset=offset).view(t.shape).copy_(t)


def rows(x):
    """The same memory as channels-last-1d, where that is another layout."""
    return x.view(x.size(0), x.size(2), x.size(1)).transpose(1, 2)


def run(behind):
    place, results = functools.partial(fenced, behind=behind), {}
    for number, case in enumerate(CASES):
        for dtype in DTYPES:
            args, kwargs = arguments(case, dtype)
            x, *rest = map(place, args)
            results[number, dtype] = OPS[case[0]][0](x, *rest, **kwargs)
            if x.dim() == 3:
                OPS[case[0]][0](rows(x), *rest, **kwargs)
    for sizes in TRANSFORMS:
        for dtype in (torch.float32, torch.float64):
            results[sizes, dtype] = round_trip(bc.stft_fp32, bc.istft_fp32, signal(sizes[0], dtype), *sizes, place)
    return results


if __name__ == "__main__":
    run(behind=False)
    results = run(behind=True)
    isa, dtypes = bc._C.cpu_isa, bc._C.cpu_dtypes()
    torch.save({"results": results, "isa": isa, "dtypes": dtypes}, sys.argv[1])
