"""Damaged TFLite files, and networks that cannot be imported: clear errors, never a crash or a hang."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Writer

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.tflite.load import load_tflite

RNG = np.random.default_rng(1)


def small(scale: float = 0.1, zero: int = 3) -> Writer:
    """A quantized convolution, a pool and a dense layer; the graph is not closed yet."""
    writer = Writer()
    source = writer.tensor((1, 6, 6, 3), "INT8", (scale, zero), name="image")
    hidden, pooled = (writer.tensor(shape, "INT8", (0.2, -5)) for shape in ((1, 6, 6, 4), (1, 3, 3, 4)))
    result = writer.tensor((1, 2), "INT8", (0.3, 0), name="scores")
    kernel = writer.constant(RNG.integers(-9, 9, (4, 3, 3, 3)).astype(np.int8), (np.full(4, 0.1), 0, 0), name="kernel")
    bias = writer.constant(RNG.integers(-9, 9, 4).astype(np.int32), (np.full(4, 0.01), 0))
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    writer.node("CONV_2D", [source, kernel, bias], [hidden], "Conv2DOptions", options)
    window = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2}
    writer.node("AVERAGE_POOL_2D", [hidden], [pooled], "Pool2DOptions", window)
    matrix = writer.constant(RNG.integers(-9, 9, (2, 36)).astype(np.int8), (0.1, 0))
    writer.node("FULLY_CONNECTED", [pooled, matrix, -1], [result], "FullyConnectedOptions")
    return writer


def closed(writer: Writer) -> bytes:
    return writer.finish([0], [3])


def failure(path: Path, content: bytes) -> EdgepruneError:
    (path / "model.tflite").write_bytes(content)
    with pytest.raises(EdgepruneError) as caught:
        load_tflite(path / "model.tflite")
    return caught.value


def test_the_small_network_loads(tmp_path: Path):
    (tmp_path / "model.tflite").write_bytes(closed(small()))
    assert [port.name for port in load_tflite(tmp_path / "model.tflite").graph.outputs] == ["scores"]


def test_a_file_that_is_no_model(tmp_path: Path):
    assert str(failure(tmp_path, b"something else altogether")) == (
        "'model.tflite' is not a readable TFLite model [model-corrupt]\n"
        f"  where: {tmp_path / 'model.tflite'}\n"
        "  hint:  the identifier TFL3 is not there; the file is truncated or damaged, fetch or export it again"
    )
    assert failure(tmp_path, b"").code == "model-corrupt"


def test_a_missing_file_and_a_folder(tmp_path: Path):
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(EdgepruneError) as caught:
            load_tflite(path)
        assert caught.value.code == "model-missing"


def test_every_truncation_is_found(tmp_path: Path):
    content = closed(small())
    for length in range(0, len(content) - 8, 37):
        error = failure(tmp_path, content[:length])
        assert error.code == "model-corrupt", (length, str(error))


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf"), -1.0])
def test_scales_that_are_no_positive_number(tmp_path: Path, scale: float):
    assert str(failure(tmp_path, closed(small(scale)))) == (
        "tensor 'image' has a scale that is not a positive number [quantization-invalid]\n"
        "  where: tensor 'image'\n"
        "  hint:  quantize and export the model again"
    )


def changed(change) -> bytes:
    writer = small()
    change(writer)
    return closed(writer)


def set_option(number: int, name: str, value: int):
    return lambda writer: setattr(writer.graph.operators[number].builtinOptions, name, value)


def set_tensor(number: int, name: str, value: object):
    return lambda writer: setattr(writer.graph.tensors[number], name, value)


def set_operator(number: int, name: str, value: object):
    return lambda writer: setattr(writer.graph.operators[number], name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_operator(0, "inputs", [0, 99, 5]), "operator CONV_2D reads tensor 99, which nothing has made"),
        (set_operator(0, "inputs", [2, 4, 5]), "operator CONV_2D reads tensor 2, which nothing has made"),
        (set_operator(1, "outputs", [1]), "operator AVERAGE_POOL_2D writes tensor 1, which is there already"),
        (set_operator(1, "outputs", [4]), "operator CONV_2D reads tensor 4, which nothing has made"),
        (set_operator(0, "opcodeIndex", 7), "an operator has code 7 of 3"),
        (set_operator(0, "inputs", [0, 4]), None),
        (set_operator(0, "inputs", [0]), "input 1 is missing"),
        (set_operator(1, "outputs", []), "output 0 is missing"),
        (set_tensor(4, "shape", [4, 3, 3, 5]), "a buffer holds 108 values for the shape [4, 3, 3, 5]"),
        (set_tensor(4, "shape", [-1, 3, 3, 3]), "a tensor has the shape [-1, 3, 3, 3]"),
        (set_tensor(0, "shape", [1] * 9), "a tensor has the shape"),
        (set_tensor(0, "shape", [1, 65536, 65536, 3]), "a tensor has the shape"),
        (set_tensor(4, "buffer", 1000), "a tensor reads buffer 1000"),
        (set_tensor(4, "type", schema.TensorType.INT32), None),
        (set_tensor(0, "shape", [1, 6, 6, 4]), "weights for 3 channels do not fit 4"),
        (set_tensor(0, "shape", [6, 6, 3]), "CONV_2D"),
        (set_option(0, "strideH", 0), "StrideH, StrideW are [0, 1]"),
        (set_option(0, "strideH", -3), "StrideH, StrideW are [-3, 1]"),
        (set_option(0, "fusedActivationFunction", 77), "activation 77 does not exist"),
        (set_option(0, "padding", 9), "padding 9 does not exist"),
        (set_option(1, "filterHeight", 0), "FilterHeight, FilterWidth are [0, 2]"),
        (set_option(1, "strideW", 7), "weights for 36 inputs do not fit"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, change, said: str | None):
    if said is None:
        (tmp_path / "model.tflite").write_bytes(changed(change))
        try:
            load_tflite(tmp_path / "model.tflite")
        except EdgepruneError as error:
            assert error.code == "model-corrupt"
        return
    error = failure(tmp_path, changed(change))
    assert error.code == "model-corrupt"
    assert said in str(error)


def test_control_flow_is_named(tmp_path: Path):
    writer = Writer()
    tensors = [writer.tensor((2,), name=name) for name in ("start", "end")]
    writer.node("WHILE", [tensors[0]], [tensors[1]], "WhileOptions", {"condSubgraphIndex": 0, "bodySubgraphIndex": 0})
    assert str(failure(tmp_path, writer.finish([0], [1]))) == (
        "TFLite operator WHILE cannot be imported: there is no conversion for it [op-unsupported]\n"
        "  where: node 'end' (WHILE)\n"
        "  hint:  replace the operator in the model, or cut the model before it"
    )


def test_custom_operators_are_named(tmp_path: Path):
    writer = Writer()
    tensors = [writer.tensor((2,), name=name) for name in ("boxes", "kept")]
    writer.node("CUSTOM", [tensors[0]], [tensors[1]])
    writer.model.operatorCodes[0].customCode = b"TFLite_Detection_PostProcess"
    assert str(failure(tmp_path, writer.finish([0], [1]))).startswith(
        "TFLite operator TFLite_Detection_PostProcess cannot be imported: it is a custom operator [op-unsupported]\n"
        "  where: node 'kept' (TFLite_Detection_PostProcess)"
    )


def test_inputs_without_numbers_are_named(tmp_path: Path):
    writer = Writer()
    tensors = [writer.tensor((2,), "STRING", name="words"), writer.tensor((2,), "STRING", name="same")]
    writer.node("RESHAPE", tensors[:1], tensors[1:])
    error = failure(tmp_path, writer.finish([0], [1]))
    assert error.code == "dtype-unsupported"
    assert "input 'words' is of type STRING" in str(error)


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    data = np.frombuffer(content, np.uint8).copy()
    for _ in range(int(generator.integers(1, 4))):
        place = int(generator.integers(0, len(data) - 4))
        number = generator.choice([0, 1, -1, 255, 65535, 2**31 - 1, int(generator.integers(0, len(data)))])
        data[place & ~3 : (place & ~3) + 4] = np.array([number], np.int64).astype(np.int32).view(np.uint8)
    return data.tobytes()


def test_mutants_load_or_fail_clearly(tmp_path: Path):
    """Seeded; ends after six seconds. benchmarks/fuzz_tflite.py does the same to real files, by the thousand."""
    content, end = closed(small()), time.monotonic() + 6
    path, codes = tmp_path / "model.tflite", set()
    for seed in range(300):
        if time.monotonic() > end:
            break
        path.write_bytes(mutated(content, np.random.default_rng(seed)))
        try:
            load_tflite(path)
        except EdgepruneError as error:
            codes.add(error.code)
    assert "model-corrupt" in codes
    assert codes <= {
        "dtype-unsupported", "model-corrupt", "model-nan", "model-too-large", "op-unsupported", "quantization-invalid",
        "shape-dynamic", "shape-empty",
    }  # fmt: skip
