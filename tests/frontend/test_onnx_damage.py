"""Damaged models give one clear error, or load; nothing else ever comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_onnx_files import small_model

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.onnx import load_onnx

WHOLE = [small_model(opset, listed=opset == 7).SerializeToString() for opset in (7, 13, 17, 21)]
OPERATORS = [
    "Loop",
    "NonZero",
    "If",
    "Reshape",
    "Upsample",
    "ConstantOfShape",
    "Range",
    "Split",
    "LSTM",
    "Resize",
    "Gemm",
]
NUMBERS = [-5, -1, 0, 1, 2, 7, 100, 2**31, 2**40, 2**62, -(2**63)]


def change_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """`content` cut short, or with a few bytes flipped, removed, inserted or copied."""
    if random.integers(6) == 0:
        return content[: random.integers(len(content))]
    data = bytearray(content)
    for _ in range(random.integers(1, 6)):
        at = int(random.integers(len(data)))
        kind = random.integers(4)
        if kind == 0:
            data[at] = int(random.integers(256))
        elif kind == 1:
            del data[at : at + int(random.integers(1, 8))]
        elif kind == 2:
            data[at:at] = random.bytes(int(random.integers(1, 5)))
        else:
            source = int(random.integers(len(data)))
            data[at : at + 16] = data[source : source + 16]
    return bytes(data)


def change_fields(content: bytes, random: np.random.Generator) -> bytes:
    """`content` with a few operators, edges, attributes, sizes or weights replaced, still well-formed protobuf."""
    model = onnx.ModelProto()
    model.ParseFromString(content)
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)] + ["", "nowhere"]
    for _ in range(random.integers(1, 4)):
        node = graph.node[random.integers(len(graph.node))]
        tensor = graph.initializer[random.integers(len(graph.initializer))]
        number = NUMBERS[random.integers(len(NUMBERS))]
        kind = random.integers(7)
        if kind == 0:
            node.op_type = OPERATORS[random.integers(len(OPERATORS))]
        elif kind == 1:
            node.input[random.integers(len(node.input))] = names[random.integers(len(names))]
        elif kind == 2 and node.attribute and node.attribute[0].ints:
            node.attribute[0].ints[0] = number
        elif kind == 3:
            tensor.dims[random.integers(len(tensor.dims))] = number
        elif kind == 4:
            broken = numpy_helper.from_array(np.full(list(tensor.dims)[:1], np.nan, np.float32), tensor.name)
            tensor.CopyFrom(broken) if 0 <= tensor.dims[0] < 100 else None
        elif kind == 5:
            graph.input[0].type.tensor_type.shape.dim[random.integers(4)].dim_value = number
        else:
            model.opset_import[0].version = int(random.integers(6, 25))
    return model.SerializeToString()


@pytest.mark.parametrize("change", [change_bytes, change_fields])
@pytest.mark.parametrize("seed", range(4))
def test_damage_never_escapes_as_another_error(tmp_path: Path, change, seed: int):
    random = np.random.default_rng(seed)
    path = tmp_path / "model.onnx"
    for _ in range(100):
        path.write_bytes(change(WHOLE[seed], random))
        try:
            load_onnx(path)
        except EdgepruneError as error:
            assert error.code
            assert error.where
