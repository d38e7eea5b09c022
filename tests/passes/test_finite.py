"""NaN and infinity in weights, constants and rows are refused by name."""

import numpy as np
import onnx_ir as ir
import pytest
from networks import random_samples, small_network

from edgeprune.data.samples import Samples
from edgeprune.errors import EdgepruneError
from edgeprune.ir.weights import read_bias, read_weight, weighted_layers, write_bias, write_weight
from edgeprune.passes.finite import check_finite
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level, parse_pattern


def layer_of(model, name):
    return next(layer for layer in weighted_layers(model) if layer.name == name)


def test_sound_models_and_rows_pass():
    check_finite(small_network(), random_samples(3))
    check_finite(small_network(), Samples({}))
    check_finite(small_network(), Samples({"x": np.zeros((2, 3), np.int8)}))


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infinite values")])
def test_a_weight_is_named(value, words):
    model = small_network()
    weight = read_weight(layer_of(model, "wide"))
    weight[0, 0, 1, 2] = value
    write_weight(layer_of(model, "wide"), weight)
    with pytest.raises(EdgepruneError) as caught:
        Refit({"a": Level(parse_pattern("1x1"), 0.5)})(model, random_samples(2))
    assert str(caught.value) == (
        f"the weight of node 'wide' holds {words} [not-finite]\n  where: node wide\n"
        "  hint:  export a sound checkpoint: this one was saved after its training diverged, or is damaged"
    )


def test_a_bias_is_named():
    model = small_network()
    layer = layer_of(model, "last")
    write_bias(layer, read_bias(layer) * np.nan)
    with pytest.raises(EdgepruneError, match="the bias of node 'last' holds NaN"):
        check_finite(model, random_samples(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_other_constants_may_be_infinite_but_not_nan(value):
    model = small_network()
    graph, source = model.graph, model.graph.outputs[0]
    held = ir.val("limit", const_value=ir.tensor(np.full((1, 5), value, np.float32), name="limit"))
    graph.register_initializer(held)
    graph.append(ir.node("Min", [source, held], name="capped"))
    if np.isinf(value):
        check_finite(model, random_samples(2))
    else:
        with pytest.raises(EdgepruneError, match="constant 'limit' of node 'capped' holds NaN"):
            check_finite(model, random_samples(2))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((3,), "input 'x', row 3 of the calibration data holds NaN"),
        ((1, 4), "input 'x', 2 rows, the first of them row 1, of the calibration data holds NaN"),
    ],
)
def test_rows_are_named(rows, words):
    samples = random_samples(6)
    samples.inputs["x"][list(rows), 0, 1, 2] = np.nan
    with pytest.raises(EdgepruneError) as caught:
        Refit({"a": Level(parse_pattern("1x1"), 0.5)})(small_network(), samples)
    assert caught.value.what == words
    assert caught.value.where == "input 'x'"
    assert caught.value.hint == "mend or leave out these rows of the data"


def test_what_the_network_itself_makes_infinite_is_named():
    model, samples = small_network(), random_samples(4)
    layer = layer_of(model, "first")
    write_weight(layer, read_weight(layer) * np.float32(1e38))
    samples.inputs["x"] *= 1e20
    with pytest.raises(EdgepruneError) as caught:
        Refit({"a": Level(parse_pattern("1x1"), 0.5)})(model, samples)
    assert caught.value.code == "not-finite"
    assert caught.value.what.startswith("the inputs of node 'a' hold")
    assert caught.value.where == "node a"
