"""Every shape an integer kernel can take gives the same results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integer_case import MACHINES, cases, make

from edgeprune.kernels.integer.integer import build_variant, choose, estimate_integer, estimate_variant, variants

SETTINGS = settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", ["sse", "avx2", "bytes"])
def test_any_variant(name):
    @SETTINGS
    @given(cases(MACHINES[name]), st.data())
    def check(case, data):
        variant = data.draw(st.sampled_from(variants(case.problem, case.weights, MACHINES[name])))
        case.check(build_variant(case.problem, case.weights, case.scales, case.bias, variant))

    check()


@pytest.mark.parametrize("name", ["sse", "avx2"])
@pytest.mark.parametrize("inputs", [1, 7, 24])
def test_elements_that_lie_apart_are_paired(name, inputs):
    machine = MACHINES[name]
    case = make(machine=machine, inputs=inputs, outputs=20, density=0.3, block=(1, 16))
    paired = [v for v in variants(case.problem, case.weights, machine) if any(part.gathers for part in v.parts)]
    for variant in (paired[0], paired[-1]):
        case.check(build_variant(case.problem, case.weights, case.scales, case.bias, variant))


def test_pairs_cost_less_than_half_empty_words():
    machine = MACHINES["avx2"]
    case = make(inputs=64, outputs=64, density=0.25, block=(1, 16))
    chosen = choose(case.problem, case.weights, machine)
    assert all(part.gathers for part in chosen.parts)
    cycles = estimate_variant(case.problem, case.weights, chosen, machine)
    assert cycles == pytest.approx(estimate_integer(case.problem, case.weights, machine))
    kernel = build_variant(case.problem, case.weights, case.scales, case.bias, chosen)
    assert kernel.constants[0].size <= 1.02 * np.count_nonzero(case.weights)
    dense = make(inputs=64, outputs=64)
    assert not any(part.gathers for part in choose(dense.problem, dense.weights, machine).parts)
