"""Labels say which elements of a tensor can only go together; equal labels are one unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FIXED = 0
"""The label of elements that nothing may remove."""


class Labels:
    """A union-find over labels; label 0 is fixed, and what meets it is pinned with a reason.

    `version` rises with every two labels joined.
    """

    def __init__(self) -> None:
        self._parents: list[int] = [FIXED]
        self._reasons: dict[int, str] = {}
        self.version = 0

    @property
    def count(self) -> int:
        """How many labels there are, the fixed one included."""
        return len(self._parents)

    def fresh(self, count: int) -> np.ndarray:
        """`count` new labels, int64."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """The one label that stands for all labels joined with it, for every element of `labels`."""
        distinct, places = np.unique(labels, return_inverse=True)
        found = np.array([self._root(int(label)) for label in distinct], dtype=np.int64)
        return found[places.reshape(labels.shape)]

    def join(self, left: np.ndarray, right: np.ndarray, reason: str) -> None:
        """Join the labels of two arrays element by element, as they broadcast; what meets a fixed one is pinned."""
        first, second = (each.reshape(-1) for each in np.broadcast_arrays(left, right))
        pairs = np.unique(first * self.count + second)
        for a, b in zip((pairs // self.count).tolist(), (pairs % self.count).tolist(), strict=True):
            self._join(a, b, reason)

    def pin(self, labels: np.ndarray, reason: str) -> None:
        """Let nothing remove `labels`, for `reason`; the first reason of a unit stands."""
        for label in np.unique(labels):
            if label != FIXED:
                self._reasons.setdefault(self._root(int(label)), reason)

    def reason(self, root: int) -> str | None:
        """Why the unit of `root` is pinned; None where it is not."""
        return self._reasons.get(root)

    def _root(self, label: int) -> int:
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def _join(self, a: int, b: int, reason: str) -> None:
        if FIXED in (a, b):
            self.pin(np.array([a, b]), reason)
            return
        first, second = sorted((self._root(a), self._root(b)))
        if first != second:
            self._parents[second] = first
            self.version += 1
            why = self._reasons.pop(second, None)
            if why is not None:
                self._reasons.setdefault(first, why)


def compress(labels: np.ndarray) -> np.ndarray:
    """`labels` with size 1 on every axis along which they are all the same."""
    for axis, size in enumerate(labels.shape):
        first = labels.take([0], axis) if size else labels
        if size > 1 and np.array_equal(np.broadcast_to(first, labels.shape), labels):
            labels = first
    return np.ascontiguousarray(labels)


def varying(labels: np.ndarray) -> tuple[int, ...]:
    """The axes along which compressed `labels` differ."""
    return tuple(axis for axis, size in enumerate(labels.shape) if size != 1)


def aligned(labels: np.ndarray, rank: int) -> np.ndarray:
    """`labels` with leading axes of size 1, as broadcasting to `rank` axes adds them."""
    return labels.reshape((1,) * (rank - labels.ndim) + labels.shape)


def lines(labels: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """[places on `axes`, elements that share one place]."""
    moved = np.moveaxis(labels, axes, range(len(axes)))
    return moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)
