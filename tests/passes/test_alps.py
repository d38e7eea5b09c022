"""The choice of weights against every possible choice on small layers, and against the choice by size."""

import itertools

import numpy as np
import pytest

from edgeprune.mask import mask_from_scores
from edgeprune.passes.criteria.alps import choose_mask
from edgeprune.passes.criteria.criterion import Quadratic
from edgeprune.passes.least_squares import fit_kept
from edgeprune.pattern import parse_pattern


def problem(seed, inputs, outputs):
    """Moments of correlated inputs and of what random weights make of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((300, inputs)) @ rng.standard_normal((inputs, inputs))
    weights = rng.standard_normal((inputs, outputs))
    second = x.T @ x / len(x)
    return second, second @ weights, weights


def error(second, cross, mask):
    fitted = fit_kept(second, cross, mask, np.zeros(cross.shape))
    return float(np.sum(fitted * (second @ fitted)) - 2 * np.sum(fitted * cross))


def projection(pattern, density, shape):
    def project(scores):
        return mask_from_scores(scores.reshape(1, 1, *shape), pattern, density).reshape(1, *shape)

    return project


def test_one_output_comes_close_to_the_best_of_all_subsets():
    ratios = []
    for seed in range(20):
        second, cross, weights = problem(seed, 9, 1)
        power = float(np.sum(weights * cross))
        subsets = [np.isin(np.arange(9), kept)[:, None] for kept in itertools.combinations(range(9), 4)]
        best = min(error(second, cross, mask) for mask in subsets) + power
        project = projection(parse_pattern("1x1"), 4 / 9, (9, 1))
        chosen = error(second, cross, choose_mask(Quadratic(second[None], cross[None]), project)[0]) + power
        assert chosen >= best * (1 - 1e-9)
        ratios.append(chosen / best)
    assert np.median(ratios) < 1.2


@pytest.mark.parametrize(
    ("text", "density"), [("1x1", 0.3), ("2:4", None), ("1x4", 0.25), ("2x3", 0.5), ("1:3/1x2", None)]
)
def test_loses_less_than_the_choice_by_size_and_keeps_as_much(text, density):
    gains = []
    for seed in range(8):
        second, cross, weights = problem(seed, 14, 7)
        project = projection(parse_pattern(text), density, (14, 7))
        by_size = project(weights[None] ** 2)[0]
        chosen = choose_mask(Quadratic(second[None], cross[None]), project)[0]
        assert (project(1.0 * chosen[None])[0] == chosen).all()
        power = float(np.sum(weights * cross))
        gains.append((power + error(second, cross, chosen)) / (power + error(second, cross, by_size)))
    assert np.mean(gains) < 0.85


def test_groups_are_chosen_together():
    pairs = [problem(seed, 6, 4) for seed in (1, 2)]
    second, cross = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    cross[1] *= 1e-3

    def project(scores):
        return mask_from_scores(scores.reshape(2, 1, 6, 4), parse_pattern("1x1"), 0.5).reshape(2, 6, 4)

    chosen = choose_mask(Quadratic(second, cross), project)
    assert chosen.sum() == 24
    assert chosen[0].sum() > 20
