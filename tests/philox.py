"""What PyTorch's CUDA kernels draw from a generator, in numpy.

Philox4x32-10 of Random123, cuRAND's order of its numbers (a sequence per thread), PyTorch's grid-stride loops.
"""

import numpy as np

THREADS = 256


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """(n, 4) 32-bit numbers for (n, 4) counters."""
    c, (low, high) = [counter[:, i].astype(np.uint64) for i in range(4)], key
    mask, word = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> word) ^ c[1] ^ np.uint64(low), b & mask, (a >> word) ^ c[3] ^ np.uint64(high), a & mask]
        low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
    return np.stack(c, 1).astype(np.uint32)


def blocks(size: int, multiprocessors: int, threads_per_multiprocessor: int) -> int:
    return min(-(-size // THREADS), multiprocessors * (threads_per_multiprocessor // THREADS))


def bits(size: int, grid: int, seed: int, offset: int, at_a_time: int = 4) -> np.ndarray:
    """(size,) of 32 bits as a grid of so many blocks gives them to elements, or of 64 where two at a time."""
    threads = grid * THREADS
    element = np.arange(size)
    thread, place = element % threads, element // threads
    block = offset // 4 + place // at_a_time
    counter = np.stack([block % 2**32, block >> 32, thread, thread * 0], 1)
    drawn = philox(counter, (seed % 2**32, seed >> 32))
    part = place % at_a_time
    if at_a_time == 4:
        return drawn[element, part]
    return drawn[element, 2 * part].astype(np.uint64) << np.uint64(32) | drawn[element, 2 * part + 1]


def dropout_width(size: int, itemsize: int, address: int, version: str) -> int:
    """Elements that lie side by side for a thread of that PyTorch's dropout: up to four, from 2.7 on up to 16 bytes."""
    width = 16 // itemsize if tuple(map(int, version.split(".")[:2])) >= (2, 7) else 4
    while width > 1 and (size % width or address % (width * itemsize)):
        width //= 2
    return width


def dropout_bits(size: int, grid: int, seed: int, offset: int, width: int) -> np.ndarray:
    """(size,) of 32 bits. A thread takes whole fours for its `width` elements: of two, the other two are left over."""
    if width == 1:
        return bits(size, grid, seed, offset)
    threads = grid * THREADS
    element = np.arange(size)
    thread, turn, place = element // width % threads, element // width // threads, element % width
    block = offset // 4 + turn * -(-width // 4) + place // 4
    counter = np.stack([block % 2**32, block >> 32, thread, thread * 0], 1)
    return philox(counter, (seed % 2**32, seed >> 32))[element, place % 4]


def numbers(size: int, grid: int, at_a_time: int = 4) -> int:
    """How far a generator goes on."""
    return 4 * -(-size // (grid * THREADS * at_a_time))


def uniform(drawn: np.ndarray) -> np.ndarray:
    """In (0, 1], as float32 of 32 bits or float64 of 64."""
    if drawn.dtype == np.uint32:
        return drawn.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    first, second = drawn >> np.uint64(32), drawn & np.uint64(0xFFFFFFFF)
    return (first ^ second << np.uint64(21)).astype(np.float64) * 2.0**-53 + 2.0**-54


def normal(size: int, grid: int, seed: int, offset: int, at_a_time: int = 4) -> np.ndarray:
    """By Box and Muller from pairs of numbers, in float64; two at a time are of 64 bits."""
    threads = grid * THREADS
    element = np.arange(size)
    thread, place = element % threads, element // threads
    block = offset // 4 + place // at_a_time
    counter = np.stack([block % 2**32, block >> 32, thread, thread * 0], 1)
    drawn = philox(counter, (seed % 2**32, seed >> 32)).astype(np.uint64)
    if at_a_time == 4:
        first = place % 4 // 2 * 2
        radius, turn = (drawn[element, first + i] * 2.0**-32 + 2.0**-33 for i in range(2))
        angle = 2 * np.pi * turn
    else:
        radius = (drawn[:, 0] ^ drawn[:, 1] << np.uint64(21)) * 2.0**-53 + 2.0**-54
        angle = np.pi * ((drawn[:, 2] ^ drawn[:, 3] << np.uint64(21)) * 2.0**-52 + 2.0**-53)
    return np.sqrt(-2 * np.log(radius)) * np.where(place % 2 == 0, np.sin(angle), np.cos(angle))
