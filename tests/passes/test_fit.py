"""Fits behind a rectifier against fits without, and the judge's choice against every candidate."""

import numpy as np
import pytest

from edgeprune.passes.fit import SHARES, LayerFit, Solution, best_on
from edgeprune.passes.observations import Observations


def problem(seed, rectified=True, count=3000):
    """A layer [1, 8, 6] whose inputs are correlated and whose kept half cannot give the targets exactly."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((1, count, 8)) @ rng.standard_normal((8, 8))).astype(np.float32)
    start, bias = rng.standard_normal((1, 8, 6)), rng.standard_normal((1, 1, 6)) - 1
    targets = (x @ start + bias).astype(np.float32)
    mask = rng.random((1, 8, 6)) < 0.5
    floor = np.zeros_like(targets) if rectified else None
    return Observations(x, targets, floor), start, bias, mask


def solved(fit, mask):
    return fit.solve(fit.moments(), mask)


@pytest.mark.parametrize("seed", range(5))
def test_rounds_bring_the_output_behind_the_rectifier_closer(seed):
    observed, start, bias, mask = problem(seed)
    errors = []
    for rounds in (0, 1, 2, 6):
        solution = solved(LayerFit(start, bias, observed, True, 1e-6, rounds), mask)
        assert not solution.weights[~mask].any()
        errors.append(observed.error(solution.weights, solution.bias))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_without_a_rectifier_it_is_numpys_least_squares():
    observed, start, bias, mask = problem(9, rectified=False)
    solution = solved(LayerFit(start, bias, observed, True, 1e-9), mask)
    for column in range(6):
        kept = mask[0, :, column]
        design = np.column_stack([observed.inputs[0][:, kept], np.ones(observed.count)])
        wanted = np.linalg.lstsq(design, observed.targets[0, :, column], rcond=None)[0]
        np.testing.assert_allclose(solution.weights[0, kept, column], wanted[:-1], atol=1e-3)
        np.testing.assert_allclose(solution.bias[0, 0, column], wanted[-1], atol=1e-3)


def test_without_a_bias_to_fit_it_stays():
    observed, start, bias, mask = problem(4, rectified=False)
    solution = solved(LayerFit(start, bias, observed, False, 1e-9), mask)
    np.testing.assert_array_equal(solution.bias, bias)


@pytest.mark.parametrize("noise", [0.0, 0.5, 100.0])
def test_the_judge_takes_the_best_of_all_candidates(noise):
    judge, start, bias, mask = problem(1)
    rng = np.random.default_rng(2)
    weights = (start + noise * rng.standard_normal(start.shape)) * mask
    fitted, before = Solution(weights, bias), Solution(start, bias)
    plain = Solution(start * (np.abs(start) > np.median(np.abs(start))), bias)
    found, changed = best_on(judge, fitted, plain, before)
    kept = start * mask
    candidates = [judge.error(kept + share * (weights - kept), bias) for share in SHARES]
    assert judge.error(found.weights, found.bias) == min(*candidates, judge.error(plain.weights, plain.bias))
    assert changed == (min(candidates) < judge.error(plain.weights, plain.bias))
    assert noise < 100 or not np.array_equal(found.weights, weights)
