"""Bounds of the elements of a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeprune.ir.dependency.labels import compress

ROUNDING = 2.0**-24
"""The largest relative error of one float32 operation."""


@dataclass(frozen=True)
class Interval:
    """The least and the greatest value of every element: float64 arrays of size 1 on the axes where all are alike.

    Integers that are stored are bounded exactly; of real numbers the bounds hold however sums are rounded.
    """

    low: np.ndarray
    high: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Which elements can only be one value."""
        return self.low == self.high

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value of every element."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def over(self, axes: Iterable[int]) -> Interval:
        """The bounds of all elements along `axes` together."""
        axes = tuple(axes)
        return Interval(self.low.min(axis=axes, keepdims=True), self.high.max(axis=axes, keepdims=True))

    def with_value(self, value: float) -> Interval:
        """Bounds that hold `value` too."""
        return Interval(np.minimum(self.low, value), np.maximum(self.high, value))

    def widened(self, error: np.ndarray | float) -> Interval:
        """Bounds that are further apart by `error` on either side."""
        return between(self.low - error, self.high + error)

    def spread(self, shape: tuple[int, ...]) -> Interval:
        """The bounds of every element of a tensor of `shape`, one by one."""
        return Interval(np.broadcast_to(self.low, shape), np.broadcast_to(self.high, shape))


def between(low: np.ndarray, high: np.ndarray) -> Interval:
    """Bounds of arrays that broadcast to each other; what is no number bounds nothing."""
    low, high = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64))
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    both = compress(np.stack([low, high]))
    return Interval(np.asarray(both[0]), np.asarray(both[-1]))


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Products in which zero takes anything to zero."""
    return np.where((left == 0) | (right == 0), 0.0, left * right)


def exactly(array: np.ndarray) -> Interval:
    """The bounds of a tensor whose elements are known."""
    return between(array.astype(np.float64), array.astype(np.float64))


def anything(rank: int) -> Interval:
    """The bounds of a tensor of `rank` axes of which nothing is known."""
    return Interval(np.full((1,) * rank, -np.inf), np.full((1,) * rank, np.inf))
