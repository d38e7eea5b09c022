"""Every activation row, compiled, against its float64 reference."""

from __future__ import annotations

import ctypes
import re
from functools import cache

import numpy as np
import pytest
from harness import library, target
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as script

from edgeprune.kernels.abi import Activation
from edgeprune.kernels.activation import ACTIVATIONS, activate, reference
from edgeprune.kernels.epilogue import load_vector, vector_index
from edgeprune.lowering.compile import compile_module

PARAMETERS = {
    "Clip": (-1.5, 2.25),
    "LeakyRelu": (0.1, 0.0),
    "Elu": (0.75, 0.0),
    "Celu": (1.5, 0.0),
    "Selu": (1.6732632, 1.050701),
    "HardSigmoid": (0.2, 0.5),
    "ThresholdedRelu": (0.5, 0.0),
}
POSITIVE = {"Log", "Sqrt"}
# Differences of nearly equal numbers lose relative, not absolute, accuracy in these.
ABSOLUTE = {"Gelu": 3e-7, "GeluTanh": 4e-7, "Log": 1e-7, "HardSigmoid": 1e-7, "HardSwish": 3e-7}
# exp stops at 1e-38, short of the denormal numbers.
SMALLEST = 1e-35


def unary(activation: Activation, lanes: int):
    with IRBuilder() as builder, script.prim_func(False, True):
        script.func_name("kernel")
        x, y = script.arg("x", script.handle("float32")), script.arg("y", script.handle("float32"))
        begin, end = script.arg("begin", script.int32()), script.arg("end", script.int32())
        script.func_attr({"tirx.noalias": True})
        source, sink = script.decl_buffer((1,), data=x), script.decl_buffer((1,), data=y)
        with script.serial(0, end - begin) as unit:
            at = (unit + begin) * lanes
            value = activate(activation, load_vector(source, at, 1, lanes))
            script.buffer_store(sink, value, [vector_index(at, 1, lanes)])
    return builder.get()


def points(name: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    near = rng.normal(0, 1, 4096)
    far = rng.uniform(-30, 30, 4096)
    tiny = rng.normal(0, 1e-3, 1024)
    x = np.concatenate([near, far, tiny, [-100, -88, -20, 20, 80, 1e-30, -1e-30, 0.5, -0.5, 1.5, 2.5]]).astype(
        np.float32
    )
    return np.resize(np.abs(x) + 1e-6 if name in POSITIVE else x, 16 * 600).astype(np.float32)


@cache
def functions(lanes: int) -> dict[str, object]:
    return {name: unary(Activation(name, *PARAMETERS.get(name, (0.0, 0.0))), lanes) for name in sorted(ACTIVATIONS)}


@cache
def compiled(lanes: int) -> ctypes.CDLL:
    return library(functions(lanes))


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_matches_reference(name, lanes):
    x = points(name)
    y = np.full_like(x, np.nan)
    compiled(lanes)[name](ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), 0, x.size // lanes)
    expected = reference(Activation(name, *PARAMETERS.get(name, (0.0, 0.0))), x)
    np.testing.assert_allclose(y, expected, rtol=1.5e-6, atol=ABSOLUTE.get(name, SMALLEST))


def test_everything_stays_in_vector_registers():
    assembly = compile_module(functions(8), target()).inspect_source("asm")
    bodies = re.findall(r"\.type\s+([A-Z]\w*),@function(.*?)\.Lfunc_end", assembly, re.DOTALL)
    assert sorted(name for name, _ in bodies) == sorted(ACTIVATIONS)
    calling = [name for name, body in bodies if re.search(r"\b(call|jmp)q?\s+[a-z]", body)]
    assert not calling, "these call library functions"
