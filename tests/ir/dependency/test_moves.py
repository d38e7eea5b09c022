"""Movements in numpy against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeprune.ir.dependency.moves import MOVES, moved
from edgeprune.ir.execute import start

SHAPE = (2, 8, 4, 6)
CASES = [
    ("Reshape", [[0, -1, 3]], {}, 1),
    ("Reshape", [[4, 12, 8]], {"allowzero": 1}, 1),
    ("Flatten", [], {"axis": 2}, 1),
    ("Flatten", [], {"axis": -1}, 1),
    ("Flatten", [], {"axis": 0}, 1),
    ("Unsqueeze", [[0, -2]], {}, 1),
    ("Transpose", [], {}, 1),
    ("Transpose", [], {"perm": [2, 0, 3, 1]}, 1),
    ("Slice", [[1, -4], [7, 1000], [1, -1], [2, 1]], {}, 1),
    ("Slice", [[-1], [-(1 << 40)], [1], [-3]], {}, 1),
    ("Slice", [[1], [2]], {}, 1),
    ("Split", [[3, 1, 4]], {"axis": 1}, 3),
    ("Gather", [[[5, -1], [0, 2]]], {"axis": -3}, 1),
    ("Gather", [3], {"axis": 2}, 1),
    ("Expand", [[3, 4, 5]], {}, 1),
    ("Tile", [[1, 2, 1, 3]], {}, 1),
    ("DepthToSpace", [], {"blocksize": 2}, 1),
    ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}, 1),
    ("SpaceToDepth", [], {"blocksize": 2}, 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_moves_as_onnx_runtime_does(case):
    op, constants, attributes, outputs = case
    shape = (2, 8, 1, 4, 1) if op == "Expand" else SHAPE
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    tensors = [numpy_helper.from_array(np.array(each, np.int64), f"c{i}") for i, each in enumerate(constants)]
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ["x", *(tensor.name for tensor in tensors)], names, name="node", **attributes)
    ports = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph([node], "g", ports, ends, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    wanted = start(proto.SerializeToString(), 1).run(None, {"x": array})
    found = moved(ir.from_proto(proto).graph.node("node"), array)
    assert found is not None and len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_movement_is_tested():
    assert {case[0] for case in CASES} | {"Squeeze"} == set(MOVES)
