"""Stored integers, compiled, against their numpy twins."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest
from harness import library, target
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels import script
from edgeprune.kernels.abi import FLOAT32, Format
from edgeprune.kernels.epilogue import reference_epilogue
from edgeprune.kernels.storage import (
    added,
    added_array,
    centred_array,
    read_array,
    real,
    rounded,
    rounded_array,
    stored,
    written_array,
)
from edgeprune.lowering.compile import compile_module

FORMATS = {
    "int16": Format("int16", 0.037, 0, -131, 124),
    "int16 one-sided": Format("int16", 2.5e-4, 0, 0, 255),
    "int16 wide": Format("int16", 0.01, 0, -32768, 32767),
    "int16 off centre": Format("int16", 0.3, 1000, -2000, 30000),
    "uint8": Format("uint8", 0.05, 113, 0, 255),
    "uint8 part": Format("uint8", 0.05, 0, 3, 250),
    "int8": Format("int8", 1.75, -128, -128, 127),
    "int8 symmetric": Format("int8", 0.02, 0, -127, 127),
    "int32": Format("int32", 1e-5, 0, -(2**24), 2**24),
}


def pointer_function(dtypes, expression, lanes: int):
    """`lanes` elements a unit: the last pointer gets `expression` of what the others hold."""

    def body(memories, begin, end):
        with script.serial(begin, end) as unit:
            loaded = [memory.load(unit * lanes, lanes) for memory in memories[:-1]]
            memories[-1].store(unit * lanes, expression(*loaded), lanes)

    return script.kernel_function(list(dtypes), body)


@cache
def compiled(lanes: int) -> ctypes.CDLL:
    functions = {}
    for index, f in enumerate(FORMATS.values()):
        rows = {
            "write": (["float32", f.dtype], lambda x, f=f: stored(x, f)),
            "read": ([f.dtype, "float32"], lambda x, f=f: real(x, f)),
            "round": (["float32", "float32"], lambda x, f=f: rounded(x, f)),
            "add": (["float32", f.dtype, "float32"], lambda x, r, f=f: added(x * script.splat(0.7, lanes), r, f)),
        }
        for name, (dtypes, expression) in rows.items():
            functions[f"{name}{index}"] = pointer_function(dtypes, expression, lanes)
    return library(functions)


def call(lanes: int, name: str, key: str, inputs, output: np.ndarray) -> np.ndarray:
    arguments = [ctypes.c_void_p(array.ctypes.data) for array in (*inputs, output)]
    compiled(lanes)[f"{name}{list(FORMATS).index(key)}"](*arguments, 0, output.size // lanes)
    return output


def values_about(f: Format) -> np.ndarray:
    """Grid points and midpoints over and beyond both ends, their neighbours, and far values."""
    random = np.random.default_rng(3)
    span = min(f.high - f.low, 600)
    whole = np.concatenate([f.low - f.zero + np.arange(-20, span), f.high - f.zero - np.arange(-20, span)])
    points = np.concatenate([whole, whole + 0.5]).astype(np.float32) * np.float32(f.scale)
    near = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    far = np.float32([1e30, -1e30, np.inf, -np.inf, 0.0, -0.0, 1e-40])
    values = np.concatenate([*near, far, random.standard_normal(2000, np.float32) * np.float32(f.scale * span)])
    return np.resize(values, 16 * (values.size // 16 + 1)).astype(np.float32)


@pytest.mark.parametrize("lanes", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("key", FORMATS)
def test_compiled_is_as_numpy(key, lanes):
    f = FORMATS[key]
    values = np.resize(values_about(f), 32 * (values_about(f).size // 32 + 1))
    held = call(lanes, "write", key, [values], np.empty(values.size, f.dtype))
    np.testing.assert_array_equal(held, written_array(values, f))
    assert held.min() == f.low and held.max() == f.high
    np.testing.assert_array_equal(call(lanes, "read", key, [held], np.empty_like(values)), read_array(held, f))
    finite = values[np.isfinite(values)][: values.size // 64 * 32]
    got = call(lanes, "round", key, [finite], np.empty_like(finite))
    np.testing.assert_array_equal(got, rounded_array(finite, f))
    small = np.random.default_rng(4).standard_normal(values.size, np.float32)
    got = call(lanes, "add", key, [small, held], np.empty_like(small))
    np.testing.assert_array_equal(got, added_array(small * np.float32(0.7), held, f, fused=True))


@settings(max_examples=200, deadline=None)
@given(
    st.floats(2**-20, 2**10, width=32),
    st.sampled_from([("uint8", 0, 255), ("int8", -128, 127), ("int16", -32768, 32767)]),
    st.data(),
)
def test_numpy_is_what_onnx_means(scale, bounds, data):
    dtype, low, high = bounds
    zero = data.draw(st.integers(low, high))
    f = Format(dtype, scale, zero, low, high)
    steps = data.draw(st.lists(st.integers(-(2**17), 2**17), min_size=1, max_size=20))
    exact = scale == 2.0 ** np.round(np.log2(scale))
    values = np.array(steps, np.float32) / 2 * np.float32(scale)
    whole = np.rint(values.astype(np.float64) / np.float64(np.float32(scale)))
    expected = np.clip(whole + zero, low, high)
    assert (abs(written_array(values, f) - expected) <= (0 if exact else 1)).all()
    held = written_array(values, f)
    np.testing.assert_array_equal(written_array(read_array(held, f), f), held)
    np.testing.assert_array_equal(centred_array(held, f), held.astype(np.int64) - zero)


def test_halves_go_to_even():
    f = Format("uint8", 2.0, 5, 0, 255)
    held = written_array(np.array([1, 3, 5, 7, -1, -3], np.float32), f)
    np.testing.assert_array_equal(held, [5, 7, 7, 9, 5, 3])


def test_float32_stays_as_it_is():
    x = np.float32([1.5, -2.25])
    expression = script.splat(1.5, 4)
    assert all(same(expression, FLOAT32) is expression for same in (stored, rounded, real))
    np.testing.assert_array_equal(written_array(x, FLOAT32), x)
    np.testing.assert_array_equal(rounded_array(x, FLOAT32), x)
    np.testing.assert_array_equal(added_array(x, x, FLOAT32), x + x)
    np.testing.assert_array_equal(reference_epilogue((), x, ()), x)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [("int16", ["vpmovsxwd", "vcvtps2dq", "vpackssdw"]), ("uint8", ["vpmovzxbd", "vcvtps2dq", "vpackuswb"])],
)
def test_vectors_pack_in_few_instructions(key, wanted):
    f = FORMATS[key]
    function = pointer_function([f.dtype, f.dtype], lambda x: stored(real(x, f), f), 8)
    assembly = compile_module({"kernel": function}, target()).inspect_source("asm")
    loop = assembly[assembly.index("kernel:") :].partition(".Lfunc_end")[0]
    assert all(name in loop for name in wanted)
    assert not any(name in loop for name in ("vround", "call", "vpmaxsd", "vpshufb"))
