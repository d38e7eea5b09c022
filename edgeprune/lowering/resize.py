"""Resize written out: every axis as a weighted sum of what its results read."""

from __future__ import annotations

import numpy as np

from edgeprune.ir.interpolation import Resampling, resamplings
from edgeprune.lowering.expand import Expansion

_MOST_TAPS = 4


def expand_resize(e: Expansion) -> None:
    """One axis after the other: entries picked by constant numbers, or a product where a filter reaches far."""
    given = [e.constants.get(e.input(index)) if e.input(index) else None for index in (1, 2, 3)]
    region, scales, sizes = (None if array is None or array.size == 0 else array for array in given)
    if scales is None and sizes is None:
        raise e.refuse("sizes or scales that are not constant")
    found = resamplings(e.shape(0), e.attributes, region, scales, sizes)
    rank, value = len(e.shape(0)), e.input(0)
    for each in found:
        value = _sum_of_taps(e, value, each, rank) if len(each.taps) <= _MOST_TAPS else _product(e, value, each, rank)
    outside = [each for each in found if not each.inside.all()]
    if outside:
        inside = np.ones([1] * rank, bool)
        for each in outside:
            inside = inside & _along(each.inside, each.axis, rank)
        extrapolated = e.constant(np.float32(e.attributes.get("extrapolation_value", 0.0)))
        value = e.add("Where", e.constant(inside), value, extrapolated)
    e.add("Identity", value, to=e.node.output[0])


def _sum_of_taps(e: Expansion, value: str, each: Resampling, rank: int) -> str:
    total = ""
    for taps, weights in zip(each.taps, each.weights, strict=True):
        part = e.add("Gather", value, e.constant(taps), axis=each.axis)
        if np.any(weights != 1):
            part = e.add("Mul", part, e.constant(_along(weights, each.axis, rank)))
        total = e.add("Add", total, part) if total else part
    return total


def _product(e: Expansion, value: str, each: Resampling, rank: int) -> str:
    order = [axis for axis in range(rank) if axis != each.axis] + [each.axis]
    turned = e.add("Transpose", value, perm=order)
    product = e.add("MatMul", turned, e.constant(each.matrix(e.shape(0)[each.axis])))
    return str(e.add("Transpose", product, perm=[order.index(axis) for axis in range(rank)]))


def _along(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """`vector` as a tensor of `rank` axes that broadcasts along all but `axis`."""
    return vector.reshape([-1 if other == axis else 1 for other in range(rank)])
