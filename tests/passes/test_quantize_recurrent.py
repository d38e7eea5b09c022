"""LSTM and GRU in int8: products and curves in integers, their weights stored once, what is remembered in float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from remembering import INPUTS, fed_by_hand, recurrent, texts

from edgeprune.data.samples import Samples
from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.quantization import is_quantized
from edgeprune.ir.states import visible_specs, with_states
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.ir.stream import Stream, with_held
from edgeprune.ir.weights import weighted_layers
from edgeprune.lowering.lower import lower
from edgeprune.passes.quantize.quantize import Quantize
from edgeprune.road.probes import prunable
from edgeprune.search.levels import prunable_layers
from edgeprune.target import load_target

STATES = {"LSTM": {"h": "hn", "c": "cn"}, "GRU": {"h": "hn"}}
UNITS, STEPS, COUNT = 8, 3, 60


def rows() -> np.ndarray:
    return np.random.default_rng(9).normal(0, 1, (COUNT, STEPS, 1, INPUTS)).astype(np.float32)


@pytest.fixture(scope="module", params=["LSTM", "GRU"])
def case(request):
    """The op, the float model as a file would hold it, and its quantized IR."""
    proto = recurrent(request.param, steps=STEPS, units=UNITS, size=0.3)
    model = with_states(canonicalize(ir.from_proto(proto)), texts(STATES[request.param]))
    samples = with_held(model, Samples({"x": rows()}, None, tuple(visible_specs(model))))
    return request.param, proto, Quantize()(model, samples)


def test_a_stream_stays_close(case):
    op, proto, quantized = case
    wanted = fed_by_hand(proto, STATES[op], {"x": rows()})["y"]
    stream = Stream(quantized)
    found = np.stack([stream.run({"x": row})["y"] for row in rows()])
    assert is_quantized(quantized)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.08 * wanted.std()


def test_weights_of_all_steps_are_stored_once(case):
    op, _, quantized = case
    products = [node for node in quantized.graph if node.op_type == "Gemm"]
    assert len(products) == STEPS + 2
    again = [node for node in products if tuple(node.inputs[1].shape) == ({"LSTM": 4, "GRU": 3}[op] * UNITS, UNITS)]
    assert len(again) == STEPS and len({id(node.inputs[1]) for node in again}) == 1
    assert len({None if len(node.inputs) < 3 else id(node.inputs[2]) for node in again}) == 1
    read = {_unmoved(node.inputs[0]) for node in again}
    assert {node.op_type for node in read} == {"DequantizeLinear"}
    assert len({float(node.inputs[1].const_value.numpy()) for node in read}) == 1


def _unmoved(value: ir.Value) -> ir.Node:
    node = value.producer()
    return _unmoved(node.inputs[0]) if node.op_type == "Reshape" else node


def test_steps_share_their_kernels_on_a_microcontroller(case):
    _, _, quantized = case
    plan = lower(quantized, load_target("cortex-m4"))
    kernels = [step.layer.kernel for step in plan.steps if hasattr(step, "layer")]
    assert sum(name.startswith("fixed product") for name in kernels) >= STEPS
    assert kernels.count("fixed table") >= 2 * STEPS
    symbols = [step.symbol for step in plan.steps if hasattr(step, "layer") and "product" in step.layer.kernel]
    assert len(set(symbols)) < len(symbols)


def test_layers_that_are_kept_in_float_are_not_written_out():
    model = canonicalize(ir.from_proto(recurrent("GRU")))
    (name,) = [str(node.name) for node in model.graph if node.op_type == "GRU"]
    feeds = {"x": np.zeros((4, 2, 1, INPUTS), np.float32), "h": np.zeros((4, 1, 6), np.float32)}
    quantized = Quantize(keep_float=[name])(model, Samples(feeds, None))
    assert [node.op_type for node in quantized.graph if node.name == name] == ["GRU"]


def test_weights_that_steps_share_stay_dense(case):
    _, _, quantized = case
    real = with_real_weights(quantized)
    shared = {layer.name for layer in weighted_layers(real) if layer.shared}
    assert len(shared) == STEPS
    assert {layer.name for layer in prunable_layers(real)}.isdisjoint(shared)
    assert {layer.name for layer in prunable(real)} == {layer.name for layer in weighted_layers(real)} - shared
