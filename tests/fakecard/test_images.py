"""Which image runs on which card; fatbins, cubins and PTX, whole and damaged."""

import ctypes
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from .api import INVALID_IMAGE, INVALID_PTX, NO_BINARY, call, error_of, made, process

process.fakecard_images.restype = ctypes.c_char_p
process.fakecard_chosen.restype = ctypes.c_char_p
PTX, SASS = 1, 2
VARIANT_FLAG = {"": 0, "a": 0x100000, "f": 0x200000}


def entry(kind, arch, variant="", payload=b"code", header=64):
    padded = payload + bytes(-len(payload) % 8)
    fields = (kind, 0x101, header, len(padded), 0, 0, 0, 9, arch, 0, 0, 0x11 | VARIANT_FLAG[variant])
    return struct.pack("<HHIQIIHHIIIQ", *fields).ljust(header, b"\0") + padded


def fatbin(*entries):
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def images(data):
    return process.fakecard_images(data, ctypes.c_size_t(len(data))).decode()


def chosen(data, capability):
    return process.fakecard_chosen(data, ctypes.c_size_t(len(data)), *capability).decode()


def cubin(arch, abi=7, flags=None, machine=190):
    """An ELF header, no sections but the one of names."""
    if flags is None:
        flags = arch << 8 | 2 if abi == 8 else arch << 16 | 0x500 | arch
    header = b"\177ELF\2\1\1\x33" + bytes([abi]) + bytes(7)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 72, flags, 64, 0, 0, 64, 1, 0)
    names = b"\0.names\0\0"
    return header + names[:8] + struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 64, 8, 0, 0, 1, 0)


RULES = [  # image, card, does it run; the table of the Blackwell compatibility guide
    ((SASS, 60), (6, 1), True),
    ((SASS, 61), (6, 0), False),
    ((SASS, 70), (7, 5), True),
    ((SASS, 75), (7, 0), False),
    ((SASS, 80), (8, 9), True),
    ((SASS, 86), (12, 0), False),
    ((SASS, 90), (10, 0), False),
    ((SASS, 90, "a"), (9, 0), True),
    ((SASS, 120), (12, 1), True),
    ((SASS, 120, "a"), (12, 1), False),
    ((SASS, 120, "f"), (12, 1), True),
    ((SASS, 121), (12, 0), False),
    ((PTX, 50), (12, 0), True),
    ((PTX, 90), (12, 0), True),
    ((PTX, 120), (9, 0), False),
    ((PTX, 90, "a"), (12, 0), False),
    ((PTX, 90, "a"), (9, 0), True),
    ((PTX, 100, "f"), (10, 3), True),
    ((PTX, 100, "f"), (12, 0), False),
]


@pytest.mark.parametrize(("image", "card", "runs"), RULES, ids=str)
def test_rules(image, card, runs):
    assert bool(chosen(fatbin(entry(*image)), card)) == runs


def test_sass_goes_before_ptx_and_newer_before_older():
    data = fatbin(entry(PTX, 120), entry(SASS, 80), entry(SASS, 86), entry(PTX, 90))
    assert images(data) == "compute_120 sm_80 sm_86 compute_90"
    assert chosen(data, (8, 9)) == "sm_86"
    assert chosen(data, (9, 0)) == "compute_90"
    assert chosen(data, (12, 1)) == "compute_120"
    assert chosen(data, (7, 5)) == ""


def test_other_kinds_are_passed_over():
    assert images(fatbin(entry(8, 75), entry(SASS, 75))) == "sm_75"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than its header"),
        (b"\0" * 16, "no fatbin magic"),
        (fatbin(entry(SASS, 75))[:-1], "longer than the memory that holds it"),
        (struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 8) + bytes(8), "an entry ends early"),
        (fatbin(entry(SASS, 75)[:-8]), "an entry is longer than the fatbin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_fatbin_says_why(data, why):
    assert images(data) == f"error: {why}"


image_lists = st.lists(
    st.tuples(
        st.sampled_from([PTX, SASS]),
        st.sampled_from([50, 61, 75, 90, 103, 120, 121]),
        st.sampled_from(["", "a", "f"]),
        st.binary(max_size=40),
        st.sampled_from([48, 64, 80]),
    ),
    max_size=6,
)


@given(image_lists)
def test_what_is_written_is_read(written):
    want = " ".join(f"{'sm' if kind == SASS else 'compute'}_{arch}{variant}" for kind, arch, variant, *_ in written)
    assert images(fatbin(*(entry(*image) for image in written))) == want


@given(image_lists, st.data())
@example([(SASS, 120, "", b"x", 64)], None)
def test_damage_is_an_error_or_other_images_but_no_crash(written, data):
    whole = bytearray(fatbin(*(entry(*image) for image in written)))
    if data is None:  # the length of the first entry, as large as it gets
        whole[24:32] = b"\xff" * 8
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    found = images(bytes(whole))
    assert found.startswith("error: ") or all(word.startswith(("sm_", "compute_")) for word in found.split())


PTX_TEXT = b"""//
.version 7.8
.target sm_%s
.address_size 64
.visible .entry add_one(
	.param .align 8 .b8 add_one_param_0[24],
	.param .u32 add_one_param_1
)
{ ret; }
.visible .entry nothing()
{ ret; }
"""


def use_first_card():
    call("cudaSetDevice", 0)  # the RTX 5090
    call("cudaFree", None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (cubin(90), NO_BINARY),
        (cubin(120, abi=8), 0),
        (cubin(121, abi=8), NO_BINARY),
        (cubin(90, flags=0x5A0D5A), NO_BINARY),
        (cubin(120, abi=8, flags=0x600780A), 0),
        (cubin(75, machine=62), INVALID_IMAGE),
        (PTX_TEXT % b"75", 0),
        (PTX_TEXT % b"120a", 0),
        (PTX_TEXT % b"121", NO_BINARY),
        (PTX_TEXT % b"90a", NO_BINARY),
        (b"no code at all, but long enough", INVALID_PTX),
        (fatbin(entry(SASS, 90), entry(PTX, 90, "a")), NO_BINARY),
        (fatbin(entry(SASS, 120, payload=cubin(120, abi=8))), 0),
    ],
)
def test_modules_are_checked_against_the_card(code, error):
    use_first_card()
    module = ctypes.c_void_p()
    buffer = ctypes.create_string_buffer(code, len(code) + 64)
    assert error_of("cuModuleLoadData", ctypes.byref(module), buffer) == error
    if not error:
        call("cuModuleUnload", module)


def test_kernels_of_ptx_and_their_parameters():
    use_first_card()
    module = made("cuModuleLoadData", ctypes.create_string_buffer(PTX_TEXT % b"75"))
    for name, sizes in {b"add_one": [24, 4], b"nothing": []}.items():
        function = made("cuModuleGetFunction", module, name)
        for i, want in enumerate(sizes):
            size = ctypes.c_size_t()
            call("cuFuncGetParamInfo", function, i, None, ctypes.byref(size))
            assert size.value == want
        assert error_of("cuFuncGetParamInfo", function, len(sizes), None, ctypes.byref(ctypes.c_size_t())) == 1
    out = ctypes.c_void_p()
    assert error_of("cuModuleGetFunction", ctypes.byref(out), module, b"another") == 500
