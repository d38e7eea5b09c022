"""Toy layers to choose masks for, and what a choice costs."""

import numpy as np

from edgeprune.passes.criteria.criterion import MaskProblem, Quadratic
from edgeprune.passes.least_squares import fit_kept
from edgeprune.pattern import Level, parse_pattern


def layer_problem(seed, text="1x1", density=0.5, shape=(1, 1, 16, 8), rows=300, correlation=1.0):
    """A layer of correlated inputs that gave what its random weights make of them."""
    rng = np.random.default_rng(seed)
    groups, taps, inputs, outputs = shape
    size = taps * inputs
    mixing = np.eye(size) + correlation * rng.standard_normal((groups, size, size)) / np.sqrt(size)
    x = (rng.standard_normal((groups, rows, size)) @ mixing) * rng.uniform(0.3, 2, (groups, 1, size))
    weights = rng.standard_normal((groups, size, outputs))
    power = np.mean(x**2, axis=1)
    second = x.transpose(0, 2, 1) @ x / rows + 1e-4 * power.mean() * np.eye(size)
    pattern = parse_pattern(text)
    level = Level(pattern, pattern.density or density)
    return MaskProblem(Quadratic(second, second @ weights), weights, power, shape, level)


def loss(problem, weights):
    """The layer's squared error with `weights`, by the moments alone."""
    second, cross = problem.quadratic.second, problem.quadratic.cross
    apart = weights - np.linalg.solve(second, cross)
    return float(np.sum(apart * (second @ apart)))


def refitted_loss(problem, mask):
    """The squared error of the best weights inside `mask`."""
    parts = zip(problem.quadratic.second, problem.quadratic.cross, mask, problem.start, strict=True)
    return loss(problem, np.stack([fit_kept(*part) for part in parts]))
