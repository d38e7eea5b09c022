"""Networks computed in bands of rows: the same integers as without, here and on an emulated board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from board_runner import on_board
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from library_runner import Context, build, load
from lowered import canonical
from qdq_networks import Network

from edgeprune.data import random_samples
from edgeprune.ir.copy import copy_model
from edgeprune.ir.ports import input_specs
from edgeprune.lowering.bands import BANDS_KEY, note_bands
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call, Plan
from edgeprune.road.twin import twin_target
from edgeprune.target import load_target

M4 = "cortex-m4"
SCALE, ZERO = 0.05, 3
INPUT_CHANNELS = 3


@dataclass(frozen=True)
class Step:
    """One layer of a chain; kernel and strides are of rows and columns, pads as ONNX has them."""

    kind: str
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    channels: int = 5

    def reached(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The height and width of the result for an image of `shape`."""
        if self.kind == "residual":
            return shape
        rows, columns = (
            (shape[axis] + self.pads[axis] + self.pads[axis + 2] - self.kernel[axis]) // self.strides[axis] + 1
            for axis in (0, 1)
        )
        return rows, columns


@st.composite
def steps(draw: Any) -> Step:
    kind = draw(st.sampled_from(["conv", "conv", "depthwise", "max", "average", "residual"]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    most = [extent // 2 if kind in ("max", "average") else extent - 1 for extent in kernel]
    pads = tuple(draw(st.integers(0, most[axis % 2])) for axis in range(4))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    return Step(kind, kernel, strides, pads, draw(st.integers(1, 6)))


def grown(chain: list[Step], shape: tuple[int, int], seed: int) -> ir.Model:
    """The canonical model of `chain`, and a convolution that reads its result."""
    n, channels = Network(seed), INPUT_CHANNELS
    x = n.quantized("x", SCALE, ZERO)
    for step in chain:
        node = appended(n, step, x, channels)
        channels = step.channels if step.kind == "conv" else channels
        x = n.quantized(node, SCALE, ZERO)
    last = n.quantized(n.conv(x, SCALE, (3, channels, 1, 1)), 0.2, 1)
    model: ir.Model = canonical(n.model({"x": [1, INPUT_CHANNELS, *shape]}, [last]))
    return model


def appended(n: Network, step: Step, x: str, channels: int) -> str:
    window = {"strides": step.strides, "pads": step.pads}
    if step.kind == "conv":
        return n.conv(x, SCALE, (step.channels, channels, *step.kernel), **window)
    if step.kind == "depthwise":
        return n.conv(x, SCALE, (channels, 1, *step.kernel), group=channels, **window)
    if step.kind == "residual":
        branch = n.conv(x, SCALE, (channels, channels, 3, 3), pads=[1, 1, 1, 1])
        return n.node("Add", [x, n.quantized(branch, SCALE, ZERO)])
    return n.node("MaxPool" if step.kind == "max" else "AveragePool", [x], kernel_shape=step.kernel, **window)


def banded(model: ir.Model, count: int) -> ir.Model:
    """`model` with all but its last convolution in `count` bands."""
    noted = copy_model(model)
    ends = [node for node in noted.graph if node.op_type in ("Conv", "Add", "MaxPool", "AveragePool")]
    note_bands(ends[-2], "x", count)
    return noted


def twin_results(model: ir.Model, feeds: dict[str, np.ndarray]) -> tuple[Plan, dict[str, np.ndarray]]:
    target = twin_target(load_target(M4))
    plan = lower(model, target)
    context = Context(load(build(plan, target).so), plan.inputs, plan.outputs)
    results = context.run(feeds)
    context.close()
    return plan, results


def rows_told(plan: Plan) -> list[str]:
    """What the layers of `plan` say of their rows."""
    return [step.layer.kernel for step in plan.steps if isinstance(step, Call) and ", rows " in step.layer.kernel]


def feeds_of(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: 3 * array for name, array in random_samples(input_specs(model), 1, seed=7).row(0).items()}


@settings(
    max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(
    chain=st.lists(steps(), min_size=1, max_size=4),
    height=st.integers(4, 23),
    width=st.integers(3, 9),
    count=st.integers(2, 9),
    seed=st.integers(0, 99),
)
def test_bands_give_the_same_here(chain: list[Step], height: int, width: int, count: int, seed: int) -> None:
    shape = (height, width)
    for step in chain:
        shape = step.reached(shape)
        assume(min(shape) >= 1)
    assume(shape[0] > 1)
    model = grown(chain, (height, width), seed)
    feeds = feeds_of(model)
    (_, wanted), (plan, got) = twin_results(model, feeds), twin_results(banded(model, count), feeds)
    assert rows_told(plan)
    for name, array in wanted.items():
        assert np.array_equal(got[name], array)


CHAINS = {
    "odd": [
        Step("conv", channels=7),
        Step("depthwise", (3, 3), (2, 2), (0, 0, 1, 1)),
        Step("conv", (1, 1), (1, 1), (0,) * 4, 9),
    ],
    "joined": [Step("conv", channels=6), Step("residual"), Step("max", (3, 2), (2, 2), (1, 0, 0, 1))],
}


@pytest.mark.parametrize("name", CHAINS)
def test_bands_give_the_same_on_a_board(name: str) -> None:
    model = grown(CHAINS[name], (33, 14), seed=3)
    feeds = feeds_of(model)
    _, wanted = twin_results(model, feeds)
    plain, (size, got) = board_results(model, feeds)[0], board_results(banded(model, 7), feeds)
    assert size < plain
    for output, array in wanted.items():
        assert np.array_equal(got[output].reshape(array.shape), array)


def board_results(model: ir.Model, feeds: dict[str, np.ndarray]) -> tuple[int, dict[str, np.ndarray]]:
    """The bytes of scratch memory and the outputs on an emulated Cortex-M4."""
    memory, board = on_board(model, M4, "emulated-m4")
    found = board.run_rows({name: array.astype(np.float32)[None] for name, array in feeds.items()})
    return memory, {name: array[0] for name, array in found.items()}


def test_a_note_that_fits_nothing_is_passed_over() -> None:
    model = grown(CHAINS["odd"], (9, 5), seed=1)
    noted = copy_model(model)
    for index, node in enumerate(noted.graph):
        node.metadata_props[BANDS_KEY] = ("3 nowhere", "many x", "", "1 x")[index % 4]
    plan = lower(noted, twin_target(load_target(M4)))
    assert not rows_told(plan)
