"""Whole small graphs, compiled, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from lowered import canonical, graph_model, run_lowered
from onnx import helper

from edgeprune.errors import EdgepruneError
from edgeprune.lowering.groups import upsample_factors
from edgeprune.lowering.layout import Mode
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import ClearHalo
from edgeprune.target import load_target

Case = Callable[
    [np.random.Generator], tuple[list[onnx.NodeProto], dict[str, list[int]], list[str], dict[str, np.ndarray]]
]


def _weights(generator: np.random.Generator, *shape: int, kept: float = 1.0) -> np.ndarray:
    values = generator.standard_normal(shape, dtype=np.float32) / np.sqrt(max(1, np.prod(shape[1:])))
    return (values * (generator.random(shape) < kept)).astype(np.float32)


def _conv(name: str, x: str, w: str, y: str, pad: int = 1, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w], [y], name=name, pads=[pad] * 4, **attributes)


def residual_block(generator: np.random.Generator):
    nodes = [
        _conv("c1", "x", "w1", "a"),
        helper.make_node("Relu", ["a"], ["ar"], name="r1"),
        _conv("c2", "ar", "w2", "b"),
        helper.make_node("Add", ["b", "ar"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["y"], name="r2"),
    ]
    constants = {"w1": _weights(generator, 20, 3, 3, 3), "w2": _weights(generator, 20, 20, 3, 3, kept=0.3)}
    return nodes, {"x": [1, 3, 9, 13]}, ["y"], constants


def option_a_shortcut(generator: np.random.Generator):
    nodes = [
        _conv("c1", "x", "w1", "a"),
        _conv("c2", "a", "w2", "b", strides=[2, 2]),
        helper.make_node("Slice", ["a", "start", "stop", "axes", "step"], ["half"], name="slice"),
        helper.make_node("Pad", ["half", "pads"], ["wide"], name="pad"),
        helper.make_node("Add", ["b", "wide"], ["y"], name="add"),
    ]
    constants = {
        "w1": _weights(generator, 8, 3, 3, 3),
        "w2": _weights(generator, 16, 8, 3, 3),
        "start": np.array([0, 0]),
        "stop": np.array([100, 100]),
        "axes": np.array([2, 3]),
        "step": np.array([2, 2]),
        "pads": np.array([0, 4, 0, 0, 0, 4, 0, 0]),
    }
    return nodes, {"x": [1, 3, 12, 10]}, ["y"], constants


def fire_module(generator: np.random.Generator):
    nodes = [
        _conv("squeeze", "x", "ws", "s", pad=0),
        helper.make_node("Relu", ["s"], ["sr"], name="r0"),
        _conv("one", "sr", "w1", "a", pad=0),
        _conv("three", "sr", "w3", "b"),
        helper.make_node("Concat", ["a", "b"], ["cat"], name="cat", axis=1),
        helper.make_node("MaxPool", ["cat"], ["p"], name="pool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        _conv("last", "p", "wl", "l"),
        helper.make_node("GlobalAveragePool", ["l"], ["g"], name="gap"),
        helper.make_node("Flatten", ["g"], ["y"], name="flat"),
    ]
    constants = {
        "ws": _weights(generator, 6, 10, 1, 1),
        "w1": _weights(generator, 9, 6, 1, 1),
        "w3": _weights(generator, 7, 6, 3, 3, kept=0.4),
        "wl": _weights(generator, 11, 16, 3, 3, kept=0.2),
    }
    return nodes, {"x": [1, 10, 11, 8]}, ["y"], constants


def shuffle_unit(generator: np.random.Generator):
    nodes = [
        _conv("stem", "x", "w0", "a"),
        helper.make_node("Reshape", ["a", "split"], ["a1"], name="reshape1"),
        helper.make_node("Transpose", ["a1"], ["a2"], name="transpose", perm=[1, 0, 2]),
        helper.make_node("Reshape", ["a2", "halves"], ["a3"], name="reshape2"),
        helper.make_node("Gather", ["a3", "zero"], ["left"], name="left", axis=0),
        helper.make_node("Gather", ["a3", "one"], ["right"], name="right", axis=0),
        _conv("pw", "right", "w1", "b", pad=0),
        helper.make_node("Relu", ["b"], ["br"], name="relu"),
        helper.make_node("Conv", ["br", "wd"], ["c"], name="dw", group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["left", "c"], ["cat"], name="cat", axis=1),
        _conv("tail", "cat", "w2", "y", pad=0),
    ]
    constants = {
        "w0": _weights(generator, 16, 3, 3, 3),
        "split": np.array([8, 2, 63]),
        "halves": np.array([2, -1, 8, 7, 9]),
        "zero": np.array(0),
        "one": np.array(1),
        "w1": _weights(generator, 8, 8, 1, 1),
        "wd": _weights(generator, 8, 1, 3, 3),
        "w2": _weights(generator, 5, 16, 1, 1),
    }
    return nodes, {"x": [1, 3, 7, 9]}, ["y"], constants


def detection_head(generator: np.random.Generator):
    nodes = [
        _conv("trunk", "x", "w0", "a", strides=[2, 2]),
        _conv("scores1", "a", "w1", "s1"),
        _conv("deep", "a", "w2", "b", strides=[2, 2]),
        _conv("scores2", "b", "w3", "s2"),
        helper.make_node("Transpose", ["s1"], ["t1"], name="t1", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t1", "pairs"], ["f1"], name="f1"),
        helper.make_node("Transpose", ["s2"], ["t2"], name="t2", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t2", "pairs"], ["f2"], name="f2"),
        helper.make_node("Concat", ["f1", "f2"], ["cat"], name="cat", axis=1),
        helper.make_node("Softmax", ["cat"], ["y"], name="softmax", axis=2),
    ]
    constants = {
        "w0": _weights(generator, 12, 3, 3, 3),
        "w1": _weights(generator, 6, 12, 3, 3),
        "w2": _weights(generator, 12, 12, 3, 3, kept=0.5),
        "w3": _weights(generator, 4, 12, 3, 3),
        "pairs": np.array([1, -1, 2]),
    }
    return nodes, {"x": [1, 3, 16, 12]}, ["y"], constants


def squeeze_excite(generator: np.random.Generator):
    nodes = [
        _conv("c", "x", "w0", "a"),
        helper.make_node("GlobalAveragePool", ["a"], ["g"], name="gap"),
        _conv("down", "g", "w1", "d", pad=0),
        helper.make_node("Relu", ["d"], ["dr"], name="relu"),
        _conv("up", "dr", "w2", "u", pad=0),
        helper.make_node("Sigmoid", ["u"], ["gate"], name="sigmoid"),
        helper.make_node("Mul", ["a", "gate"], ["y"], name="mul"),
    ]
    constants = {
        "w0": _weights(generator, 12, 3, 3, 3),
        "w1": _weights(generator, 4, 12, 1, 1),
        "w2": _weights(generator, 12, 4, 1, 1),
    }
    return nodes, {"x": [1, 3, 6, 7]}, ["y"], constants


def flatten_to_linear(generator: np.random.Generator):
    nodes = [
        _conv("c1", "x", "w0", "a"),
        _conv("c2", "a", "w1", "b"),
        helper.make_node("Flatten", ["a"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "wl", "bl"], ["h"], name="gemm", transB=1),
        helper.make_node("Sigmoid", ["h"], ["hs"], name="sig"),
        helper.make_node("MatMul", ["hs", "wm"], ["m"], name="matmul"),
        helper.make_node("Add", ["m", "bm"], ["y"], name="bias"),
    ]
    constants = {
        "w0": _weights(generator, 5, 2, 3, 3),
        "w1": _weights(generator, 5, 5, 3, 3),
        "wl": _weights(generator, 13, 5 * 4 * 6, kept=0.5),
        "bl": _weights(generator, 13),
        "wm": _weights(generator, 13, 9),
        "bm": _weights(generator, 9),
    }
    return nodes, {"x": [1, 2, 4, 6]}, ["y", "b"], constants


def token_mixer(generator: np.random.Generator):
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"], name="q"),
        helper.make_node("MatMul", ["x", "wk"], ["k"], name="k"),
        helper.make_node("Transpose", ["k"], ["kt"], name="kt", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["p"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["p", "x"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "wo"], ["o"], name="o"),
        helper.make_node("Add", ["o", "x"], ["y"], name="residual"),
    ]
    constants = {name: _weights(generator, 12, 12) for name in ("wq", "wk", "wo")}
    return nodes, {"x": [1, 7, 12]}, ["y"], constants


def batch_of_three(generator: np.random.Generator):
    nodes = [
        _conv("c1", "x", "w0", "a"),
        helper.make_node("Conv", ["a", "wd"], ["d"], name="dw", group=6, pads=[2, 2, 2, 2]),
        helper.make_node("HardSwish", ["d"], ["h"], name="hs"),
        helper.make_node("AveragePool", ["h"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "Resize",
            ["p", "", "scales"],
            ["r"],
            name="up",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Add", ["r", "a"], ["y"], name="add"),
    ]
    constants = {
        "w0": _weights(generator, 6, 3, 3, 3),
        "wd": _weights(generator, 6, 1, 5, 5),
        "scales": np.array([1, 1, 2, 2], dtype=np.float32),
    }
    return nodes, {"x": [3, 3, 6, 8]}, ["y"], constants


def grouped_and_one_dimensional(generator: np.random.Generator):
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="c1", pads=[1, 1], strides=[2]),
        helper.make_node("LeakyRelu", ["a"], ["l"], name="leaky", alpha=0.2),
        helper.make_node("Conv", ["l", "w1"], ["y"], name="c2", group=2, pads=[2, 2], dilations=[2]),
    ]
    constants = {"w0": _weights(generator, 8, 5, 3), "w1": _weights(generator, 6, 4, 3)}
    return nodes, {"x": [1, 5, 31]}, ["y"], constants


def padded_results(generator: np.random.Generator):
    nodes = [
        _conv("c1", "x", "w0", "a"),
        helper.make_node("Pad", ["a", "around"], ["p"], name="pad"),
        helper.make_node("Gather", ["p", "windows"], ["g"], name="gather", axis=2),
        helper.make_node("Transpose", ["g"], ["y"], name="transpose", perm=[0, 1, 3, 2, 4]),
        helper.make_node("Concat", ["p", "p"], ["z"], name="cat", axis=1),
        _conv("c2", "x", "w0", "b"),
        helper.make_node("Relu", ["b"], ["r"], name="relu"),
        helper.make_node("Pad", ["r", "around"], ["q"], name="last"),
    ]
    constants = {
        "w0": _weights(generator, 4, 3, 3, 3),
        "around": np.array([0, 0, 1, 2, 0, 1, 1, 0]),
        "windows": np.arange(3)[:, None] + np.arange(5)[None],
    }
    return nodes, {"x": [1, 3, 5, 6]}, ["y", "z", "q"], constants


CASES: list[Case] = [
    residual_block,
    option_a_shortcut,
    fire_module,
    shuffle_unit,
    detection_head,
    squeeze_excite,
    flatten_to_linear,
    token_mixer,
    batch_of_three,
    grouped_and_one_dimensional,
    padded_results,
]


@pytest.mark.parametrize("mode", ["channels", "pixels"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_compiled_graph_equals_onnx_runtime(case: Case, mode: Mode, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    nodes, inputs, outputs, constants = case(generator)
    proto = graph_model(nodes, inputs, outputs, constants)
    model = canonical(proto)
    feeds = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in inputs.items()}
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dict(zip(outputs, session.run(outputs, feeds), strict=True))
    found = run_lowered(model, feeds, tmp_path, mode)
    for name in outputs:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_images_of_few_channels_are_copied_in_rows_where_vectors_are_long() -> None:
    nodes, inputs, outputs, constants = padded_results(np.random.default_rng(3))
    model = canonical(graph_model(nodes, inputs, outputs, constants))
    for target, cell in (("x86-64-v3", 4), ("x86-64-v2", 12)):
        borders = [step for step in lower(model, load_target(target)).steps if isinstance(step, ClearHalo)]
        assert {step.cell for step in borders if step.buffer.startswith("copy:x")} == {cell}


def test_an_output_without_values_is_refused() -> None:
    node = helper.make_node("Slice", ["x", "start", "stop", "axes"], ["nothing"], name="slice")
    constants = {name: np.array([number]) for name, number in {"start": 3, "stop": 3, "axes": 1}.items()}
    model = canonical(graph_model([node], {"x": [1, 8, 4, 4]}, ["nothing"], constants))
    with pytest.raises(EdgepruneError) as caught:
        lower(model, load_target("x86-64-v3"))
    assert caught.value.code == "shape-empty"
    assert "nothing" in caught.value.what


@pytest.mark.parametrize(("scale", "factors"), [(2.0, (2, 2)), (2.1, None)])
def test_an_image_is_repeated_where_positions_say_so_and_not_by_its_size_alone(
    scale: float, factors: tuple[int, int] | None
) -> None:
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    model = canonical(
        graph_model([node], {"x": [1, 3, 5, 5]}, ["y"], {"scales": np.array([1, 1, scale, scale], np.float32)})
    )
    assert model.graph.outputs[0].shape == (1, 3, 10, 10)
    assert upsample_factors(next(iter(model.graph))) == factors
