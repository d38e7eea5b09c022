"""Lowers, builds and runs a model through the plain C interface, for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgeprune.ir.canonical import canonicalize
from edgeprune.lowering.build import build
from edgeprune.lowering.layout import Mode
from edgeprune.lowering.lower import lower
from edgeprune.target import Target, load_target


def canonical(proto: onnx.ModelProto) -> ir.Model:
    """The canonical IR of a small test model."""
    return canonicalize(ir.from_proto(proto))


def graph_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    outputs: list[str],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    """A model of `nodes` with float32 inputs by shape."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run_lowered(
    model: ir.Model,
    feeds: dict[str, np.ndarray],
    folder: Path,
    mode: Mode | Mapping[str, Mode] | None = None,
    threads: int = 1,
    runs: int = 2,
    target: Target | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of the compiled library; every run must give the same."""
    target = target or load_target("host")
    plan = lower(model, target, mode)
    path = folder / f"model-{str(mode)[:9]}-{threads}.so"
    path.write_bytes(build(plan, target).library)
    library = ctypes.CDLL(str(path))
    context = ctypes.c_void_p()
    library.edge_init.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert library.edge_init(ctypes.byref(context), None, 0, threads) == 0
    inputs = [np.ascontiguousarray(feeds[port.name], dtype=port.dtype) for port in plan.inputs]
    results = []
    for _ in range(runs):
        outputs = [np.full(port.shape, 7, dtype=port.dtype) for port in plan.outputs]
        pointers = [(ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)) for arrays in (inputs, outputs)]
        assert library.edge_run(context, pointers[0], pointers[1]) == 0
        results.append(outputs)
    library.edge_free.argtypes = [ctypes.c_void_p]
    library.edge_free(context)
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            assert np.array_equal(left, right, equal_nan=True)
    return {port.name: array for port, array in zip(plan.outputs, results[0], strict=True)}
