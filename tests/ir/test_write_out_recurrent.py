"""LSTM and GRU that are written out compute what ONNX Runtime computes, in every form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.ir.canonical import canonicalize
from edgeprune.ir.execute import Session
from edgeprune.ir.write_out_recurrent import MOST_STEPS, rounded_inputs, write_out_recurrent

INPUTS, UNITS = 3, 4
GATES = {"LSTM": 4, "GRU": 3}


def network(op: str, steps: int, batch: int, states: str, bias: bool, **attributes: object) -> ir.Model:
    """One recurrent layer whose outputs all go out; `states` are inputs, zero, or not there."""
    random, constants = np.random.default_rng(steps), []
    directions = 2 if attributes.get("direction") == "bidirectional" else 1

    def constant(name: str, *shape: int) -> str:
        array = random.normal(0, 0.5, shape).astype(np.float32) if name != "zero" else np.zeros(shape, np.float32)
        constants.append(numpy_helper.from_array(array, name))
        return name

    gates = GATES[op] * UNITS
    names = ["x", constant("w", directions, gates, INPUTS), constant("r", directions, gates, UNITS)]
    names += [constant("b", directions, 2 * gates) if bias else "", ""]
    held = ["h", "c"][: 2 if op == "LSTM" else 1]
    if states == "zero":
        names += [constant("zero", directions, batch, UNITS)] * len(held)
    names += held if states == "given" else []
    results = ["y", *(f"{name}n" for name in held)]
    node = helper.make_node(op, names, results, "layer", hidden_size=UNITS, **attributes)
    ports = {"x": [steps, batch, INPUTS]}
    ports |= {name: [directions, batch, UNITS] for name in held} if states == "given" else {}
    graph = helper.make_graph(
        [node],
        "recurrent",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return canonicalize(ir.from_proto(proto))


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize(
    ("steps", "batch", "states", "bias", "attributes"),
    [
        (1, 1, "given", True, {}),
        (3, 2, "given", True, {"linear_before_reset": 1}),
        (4, 1, "none", True, {"linear_before_reset": 1}),
        (3, 1, "zero", False, {}),
        (2, 3, "given", True, {"direction": "reverse"}),
        (3, 2, "given", True, {"direction": "bidirectional"}),
        (2, 1, "none", False, {"direction": "bidirectional", "linear_before_reset": 1}),
    ],
)
def test_it_computes_the_same(op, steps, batch, states, bias, attributes):
    given = {name: value for name, value in attributes.items() if op == "GRU" or name != "linear_before_reset"}
    model = network(op, steps, batch, states, bias, **given)
    written = write_out_recurrent(model)
    assert not {node.op_type for node in written.graph} & set(GATES)
    before, after = Session(model), Session(written)
    assert after.outputs == before.outputs and after.specs == before.specs
    random = np.random.default_rng(1)
    feeds = {spec.name: random.normal(0, 1, spec.shape).astype(np.float32) for spec in before.specs}
    wanted, found = before.run(feeds), after.run(feeds)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6, err_msg=name)


def test_every_product_and_curve_is_read_rounded_and_what_is_remembered_is_not():
    written = write_out_recurrent(network("LSTM", 3, 1, "given", True))
    for node in written.graph:
        names = rounded_inputs(node)
        if node.op_type in ("Sigmoid", "Tanh"):
            assert list(names) == [0]
        assert all(name.startswith("layer/") for name in names.values())
    cells = [node for node in written.graph if node.op_type == "Add" and not rounded_inputs(node)]
    assert len(cells) == 3
    assert len({id(node.inputs[1]) for node in written.graph if node.op_type == "Gemm"}) == 2


@pytest.mark.parametrize(
    ("steps", "attributes"),
    [(MOST_STEPS + 1, {}), (2, {"clip": 3.0}), (2, {"activations": ["Sigmoid", "Relu", "Tanh"]})],
)
def test_long_and_rare_forms_stay(steps, attributes):
    model = network("LSTM", steps, 1, "none", True, **attributes)
    assert write_out_recurrent(model) is model
