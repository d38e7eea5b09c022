"""What networks lose is kept on disk under all that it depends on, and is the same when it is taken again."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeprune.cache import Cache
from edgeprune.data.samples import Samples
from edgeprune.passes.unit_errors import UnitErrors
from edgeprune.pattern import Level, parse_pattern
from edgeprune.road.error_store import kept_layer_errors, kept_unit_errors

LEVELS = {"a": [Level(parse_pattern("1x16"), 0.5), Level(parse_pattern("2:4"), 0.5)]}


def model_of(weight: float) -> ir.Model:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [weight, 1, 2, 3])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="a")], "g", *[[v] for v in values])
    graph.initializer.append(weights)
    return ir.from_proto(onnx.helper.make_model(graph))


def rows_of(first: float) -> Samples:
    return Samples({"x": np.array([[first, 1.0], [2.0, 3.0]], np.float32)})


@pytest.mark.parametrize(
    "other",
    [
        (model_of(5), rows_of(1), LEVELS, 0),
        (model_of(4), rows_of(2), LEVELS, 0),
        (model_of(4), Samples({"z": rows_of(1).inputs["x"]}), LEVELS, 0),
        (model_of(4), Samples(rows_of(1).inputs, reset_every=1), LEVELS, 0),
        (model_of(4), rows_of(1), {"a": LEVELS["a"][:1]}, 0),
        (model_of(4), rows_of(1), {"a": [LEVELS["a"][0], Level(parse_pattern("2:4"), 0.25)]}, 0),
        (model_of(4), rows_of(1), LEVELS, 1),
    ],
)
def test_errors_are_taken_again_only_where_nothing_has_changed(tmp_path, other):
    made = []

    def make():
        made.append(1)
        return {"a": (0.1 + 0.2, len(made) / 3)}

    first = kept_layer_errors(model_of(4), rows_of(1), LEVELS, 0, make, Cache(tmp_path))
    assert (
        kept_layer_errors(model_of(4), rows_of(1), LEVELS, 0, make, Cache(tmp_path))
        == first
        == {"a": (0.1 + 0.2, 1 / 3)}
    )
    assert kept_layer_errors(*other, make, Cache(tmp_path)) == {"a": (0.1 + 0.2, 2 / 3)}


def test_orders_of_units_are_taken_again_as_they_were(tmp_path):
    made = {"g": UnitErrors(np.array([2, 0, 1]), np.array([0.0, 1e-9, 1 / 3]))}
    cached = [
        kept_unit_errors(model_of(4), rows_of(1), {"g": 1}, 0, make, Cache(tmp_path))
        for make in (lambda: made, lambda: pytest.fail("made twice"))
    ]
    for each in cached:
        assert each["g"].order.dtype == np.int64
        np.testing.assert_array_equal(each["g"].order, made["g"].order)
        np.testing.assert_array_equal(each["g"].errors, made["g"].errors)
    again = kept_unit_errors(
        model_of(4), rows_of(1), {"g": 2}, 0, lambda: {"g": made["g"]} | {"h": made["g"]}, Cache(tmp_path)
    )
    assert set(again) == {"g", "h"}
