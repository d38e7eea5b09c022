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
    paired = [v for v in variants(case.problem, case.weights, machine) if any(part.mode == "pairs" for part in v.parts)]
    for variant in (paired[0], paired[-1]):
        case.check(build_variant(case.problem, case.weights, case.scales, case.bias, variant))


def test_pairs_cost_less_than_half_empty_words():
    machine = MACHINES["avx2"]
    case = make(inputs=64, outputs=64, density=0.25, block=(1, 16))
    chosen = choose(case.problem, case.weights, machine)
    assert all(part.mode == "pairs" for part in chosen.parts)
    cycles = estimate_variant(case.problem, case.weights, chosen, machine)
    assert cycles == pytest.approx(estimate_integer(case.problem, case.weights, machine))
    kernel = build_variant(case.problem, case.weights, case.scales, case.bias, chosen)
    assert kernel.constants[0].size <= 1.02 * np.count_nonzero(case.weights)
    dense = make(inputs=64, outputs=64)
    assert not any(part.mode == "pairs" for part in choose(dense.problem, dense.weights, machine).parts)


@pytest.mark.parametrize("name", ["sse", "avx2", "bytes", "bytes4"])
@pytest.mark.parametrize("widest", [127, 255])
def test_lanes_choose_their_own_elements(name, widest):
    machine = MACHINES[name]
    case = make(machine=machine, inputs=19, outputs=21, density=0.2, groups=1, widest=widest)
    chosen = [v for v in variants(case.problem, case.weights, machine) if all(p.mode == "lanes" for p in v.parts)]
    case.check(build_variant(case.problem, case.weights, case.scales, case.bias, chosen[0]))


def one_of_four(machine):
    """A case of which each channel keeps one of every four inputs."""
    case = make(machine=machine, inputs=64, outputs=64, height=6, width=6)
    place = np.random.default_rng(3).integers(0, 4, (1, 9, 16, 1, 64))
    mask = np.arange(4)[:, None] == place
    case.weights = np.where(mask.reshape(1, 9, 64, 64), np.where(case.weights == 0, 1, case.weights), 0).astype(
        np.int16
    )
    return case


@pytest.mark.parametrize(("name", "entries"), [("avx2", 8), ("bytes", 4)])
def test_balanced_zeros_fill_every_word(name, entries):
    machine = MACHINES[name]
    case = one_of_four(machine)
    chosen = choose(case.problem, case.weights, machine)
    assert {part.mode for part in chosen.parts} == {"lanes"}
    kernel = build_variant(case.problem, case.weights, case.scales, case.bias, chosen)
    kept = np.count_nonzero(case.weights)
    weights, offsets, codes = kernel.constants[0], kernel.constants[1], kernel.constants[-1]
    assert weights.size == kept
    assert offsets.size == 9 * entries, "all blocks read the same windows"
    bits = {1: 6, 2: 16}[codes.itemsize]
    assert int(codes.max()) < 2**bits
    assert weights.size + codes.size * bits / 8 <= 1.5 * kept
    case.check(kernel)
