"""Networks that multiply images element by element, by integers alone: gates and squeezed channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from library_runner import Context, build, load
from lowered import canonical
from qdq_networks import Network

from edgeprune.data import random_samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call
from edgeprune.road.twin import twin_target
from edgeprune.target import load_target


def squeezed(n: Network) -> str:
    """An image times what two small products make of its means."""
    x = n.quantized(n.conv(n.quantized("x", 0.04, 3), 0.04, (8, 5, 3, 3), pads=[1, 1, 1, 1]), 0.06, -20)
    mean = n.quantized(n.node("GlobalAveragePool", [x]), 0.03, -20)
    gate = n.quantized(n.node("HardSigmoid", [n.quantized(n.conv(mean, 0.03, (8, 8, 1, 1)), 0.05, 5)]), 1 / 256, -128)
    y = n.quantized(n.node("Mul", [gate, x]), 0.06, -30)
    return n.quantized(n.conv(y, 0.06, (4, 8, 1, 1)), 0.1, 7)


def gated(n: Network) -> str:
    """One branch times another, and what is left of it once it is taken away."""
    x = n.quantized("x", 0.04, 3)
    a = n.quantized(n.conv(x, 0.04, (7, 5, 1, 1)), 0.05, 11)
    b = n.quantized(n.node("Sigmoid", [n.quantized(n.conv(x, 0.04, (7, 5, 1, 1)), 0.05)]), 1 / 256, -128)
    c = n.quantized(n.node("Mul", [a, b]), 0.04, -5)
    return n.quantized(n.node("Sub", [a, c]), 0.06, 9)


@pytest.mark.parametrize(
    ("network", "kinds"),
    [(squeezed, {"fixed multiplication, broadcast"}), (gated, {"fixed multiplication", "fixed addition"})],
)
def test_factors_are_integers(network, kinds: set[str]) -> None:  # type: ignore[no-untyped-def]
    n = Network(3)
    model = canonical(model_of(n, network(n)))
    target = twin_target(load_target("cortex-m4"))
    plan = lower(model, target)
    labels = [step.layer.kernel for step in plan.steps if isinstance(step, Call)]
    assert kinds <= set(labels)
    assert all(label.startswith("fixed") for label in labels[1:-1]), labels
    context, session = Context(load(build(plan, target).so), plan.inputs, plan.outputs), Session(model)
    samples = random_samples(input_specs(model), 2, seed=5)
    for index in range(2):
        feeds = samples.row(index)
        for got, want in zip(context.run(feeds).values(), session.run(feeds).values(), strict=True):
            steps = np.abs(got - want) / np.unique(np.diff(np.unique(want))).min()
            assert steps.max() < 1.01  # Halves, which factors of powers of two make many of, are rounded otherwise.


def model_of(n: Network, output: str) -> onnx.ModelProto:
    return n.model({"x": [2, 5, 6, 7]}, [output])
