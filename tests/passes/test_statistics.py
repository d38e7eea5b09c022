"""Moments of observations against numpy's covariance."""

import numpy as np

from edgeprune.passes.observations import Observations
from edgeprune.passes.statistics import input_moments, target_moments


def observations(seed, count=9000):
    rng = np.random.default_rng(seed)
    x, z, floor = (rng.standard_normal((2, count, size)).astype(np.float32) + 0.5 for size in (5, 3, 3))
    return Observations(x, z, floor), rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 1, 3))


def test_moments_are_those_of_numpy():
    observed, weights, bias = observations(2)
    seen = input_moments(observed, centred=True)
    for given, aims in (
        (target_moments(observed, seen), observed.targets),
        (target_moments(observed, seen, weights, bias), observed.attainable(weights, bias)),
    ):
        for group in range(2):
            both = np.cov(np.hstack([observed.inputs[group], aims[group]]), rowvar=False, bias=True)
            np.testing.assert_allclose(seen.second[group], both[:5, :5], atol=1e-4)
            np.testing.assert_allclose(given.cross[group], both[:5, 5:], atol=1e-4)
            np.testing.assert_allclose(given.mean[group], aims[group].mean(axis=0), atol=1e-4)


def test_moments_about_zero():
    observed, _, _ = observations(3)
    seen = input_moments(observed, centred=False)
    given = target_moments(observed, seen)
    assert not seen.mean.any() and not given.mean.any()
    x, z = observed.inputs[1].astype(np.float64), observed.targets[1].astype(np.float64)
    np.testing.assert_allclose(seen.second[1], x.T @ x / len(x), atol=1e-4)
    np.testing.assert_allclose(given.cross[1], x.T @ z / len(x), atol=1e-4)
