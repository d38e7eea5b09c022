"""How TFLite files store things: sparse, in 4 bits, 8-bit weights alone; and what the IR keeps of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tflite_writer import Writer

from edgeprune.frontend.tflite.load import load_tflite
from edgeprune.frontend.tflite.sparsity import Axis, densify
from edgeprune.ir.execute import Session
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.weights import weighted_layers

RNG = np.random.default_rng(5)


def agree(path: Path, content: bytes, tolerance: float = 1e-4):
    """Compares one random row, and gives the imported model."""
    path.write_bytes(content)
    model, interpreter = load_tflite(path), Interpreter(model_content=content)
    interpreter.allocate_tensors()
    feeds = {}
    for port in interpreter.get_input_details():
        feeds[port["name"]] = RNG.standard_normal(port["shape"]).astype(np.float32)
        interpreter.set_tensor(port["index"], feeds[port["name"]])
    interpreter.invoke()
    found = Session(model).run(feeds)
    for port in interpreter.get_output_details():
        np.testing.assert_allclose(found[port["name"]], interpreter.get_tensor(port["index"]), atol=tolerance)
    return model


def dense_layer(writer: Writer, weight: int, units: int) -> bytes:
    source, result = writer.tensor((2, 8), name="source"), writer.tensor((2, units))
    writer.node("FULLY_CONNECTED", [source, weight, -1], [result], "FullyConnectedOptions")
    return writer.finish([source], [result])


def compressed_rows(array: np.ndarray):
    """A matrix as TFLite's sparsity: rows dense, the entries of each row listed."""
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder, parameters.blockMap = [0, 1], []
    rows, columns = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, array.shape[0]
    columns.format = schema.DimensionType.SPARSE_CSR
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    columns.arraySegments, columns.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
    columns.arraySegments.values = [0, *np.cumsum((array != 0).sum(1)).tolist()]
    columns.arrayIndices.values = np.nonzero(array)[1].tolist()
    parameters.dimMetadata = [rows, columns]
    return parameters


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sparse_weights_are_dense_here(tmp_path: Path, dtype: str):
    array = (RNG.standard_normal((5, 8)) * (RNG.random((5, 8)) < 0.3)).astype(dtype)
    writer = Writer()
    stored = writer.tensor(array.shape, dtype.upper())
    writer.data(stored, array[array != 0].tobytes())
    writer.graph.tensors[stored].sparsity = compressed_rows(array)
    weight = writer.tensor(array.shape, dtype.upper())
    writer.node("DENSIFY", [stored], [weight], "DensifyOptions")
    if dtype == "float16":
        half, weight = weight, writer.tensor(array.shape)
        writer.node("DEQUANTIZE", [half], [weight], "DequantizeOptions")
    (layer,) = weighted_layers(agree(tmp_path / "model.tflite", dense_layer(writer, weight, 5)))
    np.testing.assert_array_equal(layer.weight.const_value.numpy(), array.astype(np.float32))


def by_hand(values, shape, order, block_map, axes):
    """The definition, entry by entry."""
    rank, dense, position = len(shape), np.zeros(shape), 0
    sizes = {axis: level.size for axis, level in zip(order, axes, strict=True)}
    blocks = [
        np.prod([sizes[rank + k] for k, at in enumerate(block_map) if at == axis], dtype=int) for axis in range(rank)
    ]

    def walk(level: int, entry: int, place: dict[int, int]) -> None:
        nonlocal position
        if level == len(order):
            at = [place[axis] * blocks[axis] for axis in range(rank)]
            for k, axis in enumerate(block_map):
                at[axis] += place[rank + k]
            dense[tuple(at)] = values[entry]
            position += 1
            return
        here = axes[level]
        if here.segments is None:
            steps = [(entry * here.size + k, k) for k in range(here.size)]
        else:
            steps = [(k, int(here.indices[k])) for k in range(here.segments[entry], here.segments[entry + 1])]
        for child, coordinate in steps:
            walk(level + 1, child, {**place, order[level]: coordinate})

    walk(0, 0, {})
    return dense


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_sparse_blocks_in_any_order(seed: int):
    generator = np.random.default_rng(seed)
    grid, block = generator.integers(1, 4, 2), generator.integers(1, 4, 2)
    outer = list(generator.permutation(2))
    kept = generator.random((grid[outer[0]], grid[outer[1]])) < 0.5
    segments = np.concatenate([[0], np.cumsum(kept.sum(1))])
    axes = [Axis(int(grid[outer[0]])), Axis(0, segments, np.nonzero(kept)[1])]
    axes += [Axis(int(size)) for size in block]
    values = generator.standard_normal(int(kept.sum() * block.prod()))
    arguments = (tuple(int(size) for size in grid * block), [int(axis) for axis in outer] + [2, 3], [0, 1], axes)
    np.testing.assert_array_equal(densify(values, *arguments), by_hand(values, *arguments))


@pytest.mark.parametrize(
    ("order", "blocks", "axes"),
    [
        ([0, 0], [], [Axis(2), Axis(3)]),
        ([0, 1], [], [Axis(2)]),
        ([0, 1, 2], [5], [Axis(2), Axis(3), Axis(1)]),
        ([0, 1], [], [Axis(200000), Axis(300000)]),
        ([0, 1], [], [Axis(2), Axis(0, np.array([0, 4, 2]), np.array([0, 1]))]),
        ([0, 1], [], [Axis(2), Axis(0, np.array([0, 1, 2]), np.array([0, 9]))]),
        ([0, 1], [], [Axis(2), Axis(0, np.array([0, 1, 2]), np.array([0, -1]))]),
        ([0, 1], [], [Axis(2), Axis(2)]),
    ],
)
def test_sparsity_that_does_not_fit(order, blocks, axes):
    with pytest.raises(ValueError, match=r"sparse tensor|inside of a block"):
        densify(np.ones(2), (2, 3), order, blocks, axes)


def test_four_bits(tmp_path: Path):
    array = RNG.integers(-7, 8, (5, 8)).astype(np.int8)
    packed = (array.reshape(-1, 2)[:, 0] & 15) | (array.reshape(-1, 2)[:, 1] << 4)
    writer = Writer()
    weight = writer.tensor(array.shape, "INT4", (np.full(5, 0.1), 0, 0))
    writer.data(weight, packed.astype(np.int8).tobytes())
    model = agree(tmp_path / "model.tflite", dense_layer(writer, weight, 5), 0.2)
    real = with_real_weights(model)
    (layer,) = weighted_layers(real)
    np.testing.assert_allclose(layer.weight.const_value.numpy(), array * np.float32(0.1), rtol=1e-6)


def test_eight_bit_weights_alone_stay_integers(tmp_path: Path):
    array, scales = RNG.integers(-127, 128, (5, 8)).astype(np.int8), RNG.uniform(0.001, 0.01, 5)
    writer = Writer()
    content = dense_layer(writer, writer.constant(array, (scales, 0, 0)), 5)
    model = agree(tmp_path / "model.tflite", content, 0.1)  # LiteRT rounds the activations to 8 bits as well
    operators = [node.op_type for node in model.graph]
    assert operators == ["DequantizeLinear", "Gemm"]
    stored, scale, _ = model.graph[0].inputs
    np.testing.assert_array_equal(stored.const_value.numpy(), array)
    np.testing.assert_array_equal(scale.const_value.numpy(), scales.astype(np.float32))
    row = RNG.standard_normal((2, 8)).astype(np.float32)
    wanted = row @ (array * scales.astype(np.float32)[:, None]).T
    for form in (model, with_real_weights(model)):
        np.testing.assert_allclose(Session(form).run({"source": row})[form.graph.outputs[0].name], wanted, rtol=1e-5)
    assert [node.op_type for node in with_real_weights(model).graph] == ["Gemm"]
    assert [node.op_type for node in model.graph] == operators


def test_real_weights_of_a_model_without_stored_ones(tmp_path: Path):
    writer = Writer()
    model = agree(tmp_path / "model.tflite", dense_layer(writer, writer.constant(np.eye(8, dtype=np.float32)), 8))
    assert with_real_weights(model) is model


def image_chain(writer: Writer) -> bytes:
    """Two convolutions, a sum with a constant for each channel, a pool and a concatenation."""
    shape = (1, 6, 6, 3)
    tensors = [writer.tensor(shape, name=f"image{n}") for n in range(5)]
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    bias = writer.constant(np.zeros(3, np.float32))
    for before, after in itertools.pairwise(tensors[:3]):
        weight = writer.constant(RNG.standard_normal((3, 3, 3, 3)).astype(np.float32))
        writer.node("CONV_2D", [before, weight, bias], [after], "Conv2DOptions", options)
    added = writer.constant(RNG.standard_normal(3).astype(np.float32))
    writer.node("MUL", [tensors[2], tensors[1]], [tensors[3]], "MulOptions")
    writer.node("MAXIMUM", [tensors[3], added], [tensors[4]], "MaximumMinimumOptions")
    joined = writer.tensor((1, 6, 6, 6))
    writer.node("CONCATENATION", [tensors[4], tensors[3]], [joined], "ConcatenationOptions", {"axis": -1})
    return writer.finish(tensors[:1], [joined])


def test_images_turn_once(tmp_path: Path):
    model = agree(tmp_path / "model.tflite", image_chain(Writer()))
    assert [node.op_type for node in model.graph].count("Transpose") == 2
    assert [tuple(port.shape) for port in (*model.graph.inputs, *model.graph.outputs)] == [(1, 6, 6, 3), (1, 6, 6, 6)]
