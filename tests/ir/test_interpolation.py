"""Resize by ONNX Runtime against what is computed for every axis; a canonical Resize still means the same."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from canonical_cases import Graph, check, operators
from onnx import helper, numpy_helper

from edgeprune.ir.interpolation import node_resamplings, positions, resamplings
from edgeprune.ir.trainable_node import Facts
from edgeprune.ir.trainable_spatial import resize

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
CROP = "tf_crop_and_resize"
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
SCALES = ((1.7, 2.3), (0.61, 0.43), (3.0, 0.5), (1.1, 1.0))
NEAR = {"nearest": 0.2, "linear": 0.0, "cubic": 0.0}
"""How many results may lie half-way between two pixels, where each runtime's rounding decides."""
SIZES = ((8, 13), (3, 2), (1, 6))


def model_of(
    shape: tuple[int, ...], attributes: dict[str, Any], given: dict[str, np.ndarray], opset: int = 18
) -> onnx.ModelProto:
    names = [name if name in given else "" for name in ("roi", "scales", "sizes")]
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", *names], ["y"], name="resize", **attributes)],
        "test",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def reference(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]


def trained(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What the trainable model computes, by ordinary matrices and picks."""
    node = next(iter(ir.from_proto(model).graph))
    return resize(Facts(node), torch.from_numpy(x)).numpy()


def by_taps(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    found = node_resamplings(next(iter(ir.from_proto(model).graph)))
    assert found is not None
    for each in found:
        shape = [-1 if axis == each.axis else 1 for axis in range(x.ndim)]
        parts = zip(each.taps, each.weights, strict=True)
        x = sum(x.take(taps, each.axis) * weights.reshape(shape) for taps, weights in parts)
    return x


def agree(model: onnx.ModelProto, shape: tuple[int, ...], crops: bool = False, near: float = 0.0) -> None:
    """All results agree; with `near`, but for those that may be nearest to either of two neighbours."""
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    wanted = reference(model, x)
    close = np.abs(trained(model, x) - wanted) <= 2e-5
    if not crops:
        close &= np.abs(by_taps(model, x) - wanted) <= 2e-5
    assert close.mean() >= 1 - near


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("mode", MODES)
def test_by_scales_that_do_not_divide_and_by_sizes(mode: str, coordinate: str) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinate}
    for rounding, (height, width) in product(ROUNDINGS if mode == "nearest" else ("",), SCALES):
        more = {"nearest_mode": rounding} if rounding else {}
        given = {"scales": np.array([1, 1, height, width], np.float32)}
        agree(model_of((1, 2, 7, 6), {**attributes, **more}, given), (1, 2, 7, 6), near=NEAR[mode])
    for height, width in SIZES:
        model = model_of((1, 2, 5, 9), attributes, {"sizes": np.array([1, 2, height, width])})
        agree(model, (1, 2, 5, 9), near=NEAR[mode])


@pytest.mark.parametrize("mode", MODES)
def test_crops_with_values_beyond_the_data(mode: str) -> None:
    region = np.array([0, 0, 0.13, -0.21, 1, 1, 0.77, 1.12], np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": CROP, "extrapolation_value": 2.5}
    for given in ({"sizes": np.array([1, 2, 4, 8])}, {"scales": np.array([1, 1, 0.7, 1.3], np.float32)}):
        agree(model_of((1, 2, 6, 7), attributes, {"roi": region, **given}), (1, 2, 6, 7), crops=True)


@pytest.mark.parametrize(("mode", "outside"), list(product(("linear", "cubic"), (0, 1))))
def test_filters_that_reach_as_far_as_the_image_shrinks(mode: str, outside: int) -> None:
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": outside, "cubic_coeff_a": -0.5}
    for scales in ((0.31, 0.6), (1.9, 0.25)):
        model = model_of((1, 2, 11, 9), attributes, {"scales": np.array([1, 1, *scales], np.float32)})
        agree(model, (1, 2, 11, 9))


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_an_aspect_ratio_that_is_kept(policy: str) -> None:
    attributes = {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    agree(model_of((1, 2, 6, 9), attributes, {"sizes": np.array([9, 11])}), (1, 2, 6, 9))


def test_five_axes_and_one() -> None:
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    agree(
        model_of((1, 2, 3, 4, 5), attributes, {"scales": np.array([1, 1, 2.2, 1.5, 0.7], np.float32)}), (1, 2, 3, 4, 5)
    )
    agree(model_of((1, 2, 9), attributes, {"scales": np.array([1, 1, 1.6], np.float32)}), (1, 2, 9))


def test_positions_in_the_source() -> None:
    assert positions(4, 8, np.float32(2), "asymmetric").tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert positions(4, 2, np.float32(0.5), "half_pixel").tolist() == [0.5, 2.5]
    assert positions(5, 1, np.float32(0.2), "pytorch_half_pixel").tolist() == [0]


@pytest.mark.parametrize("mode", MODES)
def test_one_entry_is_repeated_whatever_the_mode(mode: str) -> None:
    found = resamplings([1, 2, 1, 1], {"mode": mode}, sizes=np.array([1, 2, 4, 3]))
    assert [(each.axis, each.taps.tolist(), each.copies) for each in found] == [
        (2, [[0] * 4], True),
        (3, [[0] * 3], True),
    ]


def test_what_stays_as_it_is_has_no_resampling() -> None:
    assert resamplings([1, 2, 4, 4], {"mode": "cubic"}, scales=np.ones(4, np.float32)) == []


def test_canonical_names_all_axes_and_drops_what_changes_nothing() -> None:
    graph = Graph()
    same = graph.node("Resize", graph.node("Relu", "x"), "", graph.constant(np.ones(4, np.float32)), mode="linear")
    scales = graph.constant(np.array([1.5, 2.5], np.float32))
    y = graph.node("Resize", same, "", scales, mode="linear", axes=[-1, 2])
    model = check(graph.model({"x": [1, 2, 4, 6]}, [y], opset=18))
    assert operators(model) == ["Relu", "Resize"]
    node = next(node for node in model.graph if node.op_type == "Resize")
    assert "axes" not in node.attributes
    assert node.inputs[2] is not None
    assert node.inputs[2].const_value is not None
    assert node.inputs[2].const_value.numpy().tolist() == [1, 1, 2.5, 1.5]
