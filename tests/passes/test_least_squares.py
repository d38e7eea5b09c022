"""Constrained least squares against numpy's solver, one column at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.passes.least_squares import conjugate_gradients, fit_kept


def problem(inputs, outputs, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4 * inputs + 3, inputs))
    return x, rng.standard_normal((len(x), outputs)), rng.random((inputs, outputs)) < rng.random()


def one_by_one(x, z, mask):
    result = np.zeros(mask.shape)
    for column in range(mask.shape[1]):
        kept = mask[:, column]
        result[kept, column] = np.linalg.lstsq(x[:, kept], z[:, column], rcond=None)[0]
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
@pytest.mark.parametrize("solve", [fit_kept, conjugate_gradients])
def test_kept_weights_are_the_least_squares_solution(solve, inputs, outputs, seed):
    x, z, mask = problem(inputs, outputs, seed)
    fitted = solve(x.T @ x, x.T @ z, mask, np.zeros(mask.shape))
    np.testing.assert_allclose(fitted, one_by_one(x, z, mask), atol=1e-4)
    assert not fitted[~mask].any()


def test_large_problems_go_to_conjugate_gradients(monkeypatch):
    monkeypatch.setattr("edgeprune.passes.least_squares.EXACT_OPERATIONS", 0)
    monkeypatch.setattr(np.linalg, "solve", lambda *_: pytest.fail("solved exactly"))
    x, z, mask = problem(9, 4, 0)
    np.testing.assert_allclose(fit_kept(x.T @ x, x.T @ z, mask, 1.0 * mask), one_by_one(x, z, mask), atol=1e-4)
