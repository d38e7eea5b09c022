"""The integer convolution, compiled, bit by bit against plain numpy over awkward shapes, densities and views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integer_case import MACHINES, STORED, cases, make

from edgeprune.kernels.abi import FLOAT32, Activation, Format, Machine
from edgeprune.kernels.integer.finish import needed
from edgeprune.kernels.integer.integer import estimate_integer
from edgeprune.target import load_target

SETTINGS = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", MACHINES)
def test_any_problem(name):
    @SETTINGS
    @given(cases(MACHINES[name]), st.lists(st.integers(0, 1000), max_size=3))
    def check(case, cuts):
        case.check(case.build(MACHINES[name]), cuts=tuple(cuts))

    check()


@pytest.mark.parametrize("name", ["sse", "avx2", "bytes"])
@pytest.mark.parametrize("rows", [1, 5])
def test_linear(name, rows):
    machine = MACHINES[name]
    case = make(machine=machine, inputs=37, outputs=21, height=1, width=rows, kernel=(1, 1), pads=(0, 0), density=0.5)
    case.check(case.build(machine))


@pytest.mark.parametrize("name", ["avx2", "bytes"])
def test_channel_offsets_gather_and_shuffle(name):
    machine = MACHINES[name]
    case = make(machine=machine, inputs=6, outputs=9)
    order = np.array([5, 0, 3, 3, 1, 2])
    offsets = (order * case.problem.x.channel_stride).astype(np.int32)
    case.check(case.build(machine, offsets), channel_order=order)


@pytest.mark.parametrize("name", ["sse", "avx2", "bytes"])
@pytest.mark.parametrize(("outputs", "added"), [(29, STORED[3]), (13, FLOAT32), (7, STORED[1])])
def test_channels_that_fill_no_vector_are_stored_in_parts(name, outputs, added):
    case = make(machine=MACHINES[name], outputs=outputs, kernel=(1, 1), pads=(0, 0), height=3, width=5,
                steps=(added, Activation("Relu")), stored=STORED[2], around=(3, 5))  # fmt: skip
    case.check(case.build(MACHINES[name]))


def test_empty_blocks_give_bias_and_epilogue():
    case = make(outputs=40, density=0.0, steps=(Activation("Relu"),))
    kernel = case.build(MACHINES["avx2"])
    assert kernel.macs == 0
    case.check(kernel)


@pytest.mark.parametrize("name", ["avx2", "bytes"])
def test_blocks_cost_little_more_than_their_weights(name):
    machine = MACHINES[name]
    case = make(machine=machine, inputs=64, outputs=64, density=0.5, block=(4, 16))
    kernel = case.build(machine)
    kept = np.count_nonzero(case.weights)
    assert sum(constant.nbytes for constant in kernel.constants) <= 1.1 * kept
    assert kernel.macs == pytest.approx(kept * case.problem.pixels, rel=0.02)
    assert kernel.dense_macs == case.weights.size * case.problem.pixels
    case.check(kernel)


def test_weights_beyond_a_byte_are_exact():
    for name, stored in (("avx2", "int16"), ("bytes", "int8")):
        case = make(machine=MACHINES[name], widest=255)
        kernel = case.build(MACHINES[name])
        assert kernel.constants[0].dtype == stored
        case.check(kernel)


def test_a_row_of_taps_is_one_run():
    case = make(inputs=3, outputs=16, height=12, width=12)
    assert case.build(MACHINES["avx2"]).constants[1].size == 15
    case = make(machine=MACHINES["bytes"], inputs=3, outputs=16, height=12, width=12)
    assert case.build(MACHINES["bytes"]).constants[1].size == 9


def test_equal_shapes_share_one_function():
    case = make(inputs=4)
    first = case.build(MACHINES["avx2"])
    case.weights = -case.weights
    assert case.build(MACHINES["avx2"]).func is first.func


def test_estimate_falls_with_the_weights():
    dense, sparse = (make(inputs=32, outputs=32, density=d, block=(4, 16)) for d in (1.0, 0.25))
    costs = [estimate_integer(case.problem, case.weights, MACHINES["avx2"]) for case in (dense, sparse)]
    assert 0.2 < costs[1] / costs[0] < 0.5


@pytest.mark.parametrize("activation", [Activation("HardSwish"), Activation("Sigmoid"), Activation("Gelu")])
def test_smooth_activations_are_within_a_step(activation):
    case = make(steps=(activation,), stored=STORED[1])
    case.check(case.build(MACHINES["avx2"]), exact=False)


@pytest.mark.parametrize("dot", ["pairs", "generic"])
def test_residuals_are_rounded_twice_without_fused_products(dot, monkeypatch):
    monkeypatch.setattr("harness.target", lambda: load_target("x86-64-v2"))
    machine = Machine(4, 16, 32768, 262144, dot)
    case = make(machine=machine, inputs=5, outputs=23, steps=(STORED[1], Activation("Relu"), FLOAT32), stored=FLOAT32)
    case.check(case.build(machine), fused=False)


def test_residuals_are_rounded_once_with_fused_products():
    case = make(inputs=5, outputs=22, steps=(STORED[1], Activation("Relu"), FLOAT32), stored=FLOAT32)
    assert (case.expected(True) != case.expected(False)).any()
    case.check(case.build(MACHINES["avx2"]))


@pytest.mark.parametrize(
    ("step", "stored", "left_out"),
    [
        (Activation("Relu"), Format("uint8", 0.1, 0, 0, 255), True),
        (Activation("Relu"), Format("uint8", 0.1, 3, 0, 255), False),
        (Activation("Clip", 0, 6), Format("uint8", 6 / 255, 0, 0, 255), True),
        (Activation("Clip", 0, 5), Format("uint8", 6 / 255, 0, 0, 255), False),
        (Activation("Relu"), FLOAT32, False),
        (Activation("Sigmoid"), Format("uint8", 1 / 256, 0, 0, 255), False),
    ],
)
def test_bounds_that_the_format_sets_are_left_out(step, stored, left_out):
    assert needed((step,), stored) == (() if left_out else (step,))
