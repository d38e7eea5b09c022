"""Products with weights beyond int8, such as unsigned ones less their zero point.

What int8 cannot hold of a weight is a weight of its own, for an input that is read once more: of thousands of weights
a few are as large, so the reduction gets no more than a few blocks longer.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.product_loop import BLOCK

_LARGEST = 127


@dataclass(frozen=True)
class Repeating(Conv2d):
    """A convolution whose reduction has some blocks of its inputs twice: those `repeated` come after all others."""

    repeated: tuple[int, ...] = ()


def repeated_blocks(problem: Conv2d) -> tuple[int, ...]:
    """The blocks that the reduction of `problem` has once more, in order."""
    return problem.repeated if isinstance(problem, Repeating) else ()


def within_int8(problem: Conv2d, weights: np.ndarray) -> tuple[Conv2d, np.ndarray]:
    """`problem` with `weights`, integers [groups, taps, in, out], as one with int8 weights and the same sums.

    Where none leaves int8 it stays as it is, else the weights are [groups, 1, 4 * blocks, out].
    """
    if weights.min(initial=0) >= -_LARGEST - 1 and weights.max(initial=0) <= _LARGEST:
        return problem, weights.astype(np.int8)
    groups, taps, inputs, outputs = weights.shape
    flat = weights.reshape(groups, taps * inputs, outputs).astype(np.int64)
    rest = np.pad(flat, ((0, 0), (0, -taps * inputs % BLOCK), (0, 0))).reshape(groups, -1, BLOCK, outputs)
    places, parts, repeated = np.arange(rest.shape[1]), [], []
    while places.size:
        held = np.clip(rest[:, places], -_LARGEST, _LARGEST)
        rest[:, places] -= held
        parts.append(held)
        places = np.flatnonzero(rest.any(axis=(0, 2, 3)))
        repeated += places.tolist()
    known = {field.name: getattr(problem, field.name) for field in fields(Conv2d)}
    wide = np.concatenate(parts, axis=1).reshape(groups, 1, -1, outputs)
    return Repeating(**known, repeated=tuple(repeated)), wide.astype(np.int8)
