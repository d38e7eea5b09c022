"""Moved elements, against ONNX Runtime on real values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.lowering.movement import ZERO, is_movement, move_numbers

CASES = {
    "Transpose": ([2, 3, 4, 5], [], {"perm": [0, 2, 3, 1]}),
    "Reshape": ([2, 3, 4, 5], [np.array([0, -1, 10])], {}),
    "Flatten": ([2, 3, 4], [], {"axis": 1}),
    "Squeeze": ([2, 1, 4], [np.array([1])], {}),
    "Unsqueeze": ([2, 4], [np.array([1])], {}),
    "Slice": ([2, 6, 8, 8], [np.array([0, 1]), np.array([8, 7]), np.array([2, 3]), np.array([2, 2])], {}),
    "Gather": ([2, 6, 3], [np.array([5, 0, 3])], {"axis": 1}),
    "Pad": ([1, 3, 4, 4], [np.array([0, 2, 1, 0, 0, 1, 0, 2])], {}),
    "DepthToSpace": ([1, 8, 3, 3], [], {"blocksize": 2}),
    "SpaceToDepth": ([1, 2, 4, 6], [], {"blocksize": 2}),
}


@pytest.mark.parametrize("op", CASES)
def test_numbers_move_as_values_do(op: str) -> None:
    shape, parameters, attributes = CASES[op]
    initializers = [numpy_helper.from_array(array, f"p{index}") for index, array in enumerate(parameters)]
    node = helper.make_node(op, ["x", *(item.name for item in initializers)], ["y"], name="n", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    values = np.random.default_rng(0).random(shape, dtype=np.float32) + 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": values})
    ir_node = next(iter(ir.from_proto(onnx.shape_inference.infer_shapes(proto)).graph))
    assert is_movement(ir_node)
    (numbers,) = move_numbers(ir_node, [np.arange(values.size).reshape(shape)])
    moved = np.where(numbers == ZERO, 0, values.reshape(-1)[numbers])
    assert np.array_equal(moved, expected)
