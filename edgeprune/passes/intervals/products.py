"""Bounds of sums of products with constant weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.ports import static_shape
from edgeprune.ir.quantization import grid_of, read_stored
from edgeprune.passes.intervals.interval import ROUNDING, Interval, between, product
from edgeprune.passes.intervals.propagate import Bounds, known


def convolution(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    """One bound for each output channel; what lies outside the image is zero."""
    weight = known(node.inputs[1])
    if weight is None:
        return None
    rank = weight.ndim
    data = bounds.of(node.inputs[0]).over([axis for axis in range(rank) if axis != 1])
    if is_padded(node):
        data = data.with_value(0.0)
    groups = node.attributes.get_int("group", 1)
    channels = data.spread((1, groups * weight.shape[1], *(1,) * (rank - 2)))
    parted = weight.reshape(groups, -1, weight.shape[1], int(np.prod(weight.shape[2:])))
    given = Interval(*(each.reshape(groups, 1, -1, 1) for each in (channels.low, channels.high)))
    total, terms = _weighted(parted, given, (2, 3))
    shape = (1, -1, *(1,) * (rank - 2))
    return [_with_bias(node, bounds, Interval(total.low.reshape(shape), total.high.reshape(shape)), terms, shape)]


def is_padded(node: ir.Node) -> bool:
    """Whether a convolution may read outside its image."""
    automatic = node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return automatic or any(node.attributes.get_ints("pads", []))


def gemm(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    """One bound for each output feature."""
    weight = known(node.inputs[1])
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    if weight is None or node.attributes.get_int("transA", 0) == 1 or factors != [1.0, 1.0]:
        return None
    total, terms = _rows(weight if node.attributes.get_int("transB", 0) else weight.T, bounds.of(node.inputs[0]))
    return [_with_bias(node, bounds, total, terms, None)]


def matrix_product(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    """One bound for each column of a constant matrix on the right."""
    weight, data = known(node.inputs[1]), bounds.of(node.inputs[0])
    if weight is None or weight.ndim != 2 or data.low.ndim < 2:
        return None
    total, terms = _rows(weight.T, data)
    return [_with_bias(node, bounds, total, terms, None)]


def _rows(weight: np.ndarray, data: Interval) -> tuple[Interval, int]:
    """The bounds of data [..., inputs] times `weight` [outputs, inputs]."""
    rank = data.low.ndim
    given = data.over(range(rank - 1)).spread((*(1,) * (rank - 1), weight.shape[1]))
    total, terms = _weighted(weight, Interval(given.low.reshape(1, -1), given.high.reshape(1, -1)), (1,))
    shape = (*(1,) * (rank - 1), -1)
    return Interval(total.low.reshape(shape), total.high.reshape(shape)), terms


def _weighted(weight: np.ndarray, data: Interval, axes: tuple[int, ...]) -> tuple[Interval, int]:
    """The bounds of sums over `axes` of weights times what `data` bounds, however they are summed, and how many.

    The error of a float32 sum of n products is at most n + 2 roundings of the sum of their magnitudes (Higham, 2002).
    """
    weight = weight.astype(np.float64)
    terms = int(np.prod([weight.shape[axis] for axis in axes]))
    one, other = product(weight, data.low), product(weight, data.high)
    least, most = np.minimum(one, other).sum(axes), np.maximum(one, other).sum(axes)
    magnitude = product(np.abs(weight), data.magnitude).sum(axes)
    return between(least, most).widened((terms + 8) * ROUNDING * magnitude), terms


def _with_bias(node: ir.Node, bounds: Bounds, total: Interval, terms: int, shape: tuple[int, ...] | None) -> Interval:
    """`total` and the bias, by integers or by real numbers.

    Integers that are rescaled with two roundings are off by at most one step of their sum.
    """
    bias, steps = node.inputs[2] if len(node.inputs) > 2 else None, product_steps(node)
    given = Interval(np.zeros(()), np.zeros(())) if bias is None else bounds.of(bias)
    stored = read_stored(bias)
    if stored is not None and steps is not None and stored.integers.size in (1, steps.size):
        exact = stored.integers.reshape(-1) * steps
        given = Interval(given.low.reshape(-1), given.high.reshape(-1))
        given = between(np.minimum(given.low, exact), np.maximum(given.high, exact))
    if shape is not None:
        low, high = (each.reshape(shape if each.size > 1 else ()) for each in (given.low, given.high))
        given = Interval(low, high)
    error = np.where(total.magnitude == 0, 0.0, (terms + 8) * ROUNDING * given.magnitude)
    if steps is not None:
        error = error + (steps if shape is None else steps.reshape(shape))
    return between(total.low + given.low, total.high + given.high).widened(error)


def product_steps(node: ir.Node) -> np.ndarray | None:
    """The steps of the sums of a layer, input times weight, float64 [outputs]; None where they are no integers."""
    weight, grid = read_stored(node.inputs[1]), grid_of(node.inputs[0])
    shape = static_shape(node.outputs[0])
    outputs = shape[1] if node.op_type == "Conv" else shape[-1]
    if weight is None or grid is None or weight.scale.size not in (1, outputs):
        return None
    return np.broadcast_to(grid.scale * weight.scale.reshape(-1).astype(np.float64), (outputs,))
