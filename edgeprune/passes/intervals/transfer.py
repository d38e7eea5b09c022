"""How operators carry bounds from their inputs to their outputs: one row each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.moves import MOVES, moved
from edgeprune.ir.dependency.norm import reduced_axes
from edgeprune.ir.edit import constant
from edgeprune.ir.ports import static_shape
from edgeprune.ir.quantization import grid_of
from edgeprune.passes.intervals.interval import ROUNDING, Interval, between, product
from edgeprune.passes.intervals.products import convolution, gemm, matrix_product
from edgeprune.passes.intervals.propagate import Bounds, known

Row = Callable[[ir.Node, Bounds], list[Interval] | None]
"""The bounds of the outputs of a node; None where nothing is known of them."""

_FEW = 16 * ROUNDING
"""A relative error that a handful of float32 operations stays within."""
_FIXED_STEP = 2.0**-16
"""How far a sum of two rescaled integers may be off, in steps of the coarser grid: TFLite adds them with 20 bits
behind the point."""
_TWICE = 0.25
"""How far a rescaled integer may be off, in steps of its new grid, where it is rounded twice: first to bits behind the
point (the TFLite 8-bit specification allows that, LiteRT's reference does it). It is also at most one old step."""


def _quantize(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    """Ties may go either way: float32 rounds them to even, fixed point upward."""
    data = bounds.of(node.inputs[0])
    grid = _read_grid(node, node.outputs[0], data.low.ndim)
    if grid is None:
        return None
    data = data.widened(_rescaling(node.inputs[0], grid))
    low, high = data.low / grid.scale, data.high / grid.scale
    low = np.where(np.isfinite(low), np.ceil(low - 0.5 - _FEW * np.abs(low)), low)
    high = np.where(np.isfinite(high), np.floor(high + 0.5 + _FEW * np.abs(high)), high)
    return [between(*(np.clip(each + grid.zero, grid.least, grid.most) for each in (low, high)))]


def _rescaling(value: ir.Value | None, grid: _Grid) -> np.ndarray:
    """What rounding integers twice may add where they go from one grid to another."""
    before = grid_of(value)
    step = 0.0 if before is None else np.where(grid.scale == before.scale, 0.0, before.scale)
    return np.minimum(step, _TWICE * grid.scale)


def _dequantize(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    data = bounds.of(node.inputs[0])
    grid = _read_grid(node, node.inputs[0], data.low.ndim)
    if grid is None:
        return None
    low, high = (np.clip(each, grid.least, grid.most) for each in (data.low, data.high))
    return [between((low - grid.zero) * grid.scale, (high - grid.zero) * grid.scale)]


@dataclass(frozen=True)
class _Grid:
    """Scale and zero point, float64, in shapes that go with the tensor; the least and the most that it can store."""

    scale: np.ndarray
    zero: np.ndarray
    least: int
    most: int


def _read_grid(node: ir.Node, stored: ir.Value | None, rank: int) -> _Grid | None:
    """The grid of a Q or DQ node, whose stored side is `stored`; None where it is computed or has blocks."""
    scale, given = constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    zero, kind = constant(given), None if stored is None or stored.dtype is None else stored.dtype
    if scale is None or (given is not None and zero is None) or node.attributes.get_int("block_size", 0) > 0:
        return None
    kind = kind if zero is None else ir.DataType.from_numpy(zero.dtype)
    if kind is None or not kind.is_integer():
        return None
    shape = [1] * rank
    if scale.size > 1:
        shape[node.attributes.get_int("axis", 1)] = scale.size
    zero = np.zeros(()) if zero is None else zero
    scale, zero = (each.astype(np.float64).reshape(shape if each.size > 1 else ()) for each in (scale, zero))
    limits = np.iinfo(kind.numpy())
    return _Grid(scale, zero, int(limits.min), int(limits.max))


def _add(node: ir.Node, bounds: Bounds) -> list[Interval]:
    left, right = (bounds.of(value) for value in node.inputs)
    return [_off_by(node, between(left.low + right.low, left.high + right.high), left, right)]


def _subtract(node: ir.Node, bounds: Bounds) -> list[Interval]:
    left, right = (bounds.of(value) for value in node.inputs)
    return [_off_by(node, between(left.low - right.high, left.high - right.low), left, right)]


def _off_by(node: ir.Node, total: Interval, left: Interval, right: Interval) -> Interval:
    """`total` with what rounding may add: nothing to real numbers where one of them is zero."""
    grids = [grid_of(value) for value in node.inputs]
    fixed = _FIXED_STEP * max(grid.scale for grid in grids if grid is not None) if all(grids) else 0.0
    nothing = (left.magnitude == 0) | (right.magnitude == 0)
    return total.widened(np.where(nothing, 0.0, _FEW * (left.magnitude + right.magnitude)) + fixed)


def _multiply(node: ir.Node, bounds: Bounds) -> list[Interval]:
    left, right = (bounds.of(value) for value in node.inputs)
    corners = np.stack([product(one, other) for one in (left.low, left.high) for other in (right.low, right.high)])
    error = _FEW * product(left.magnitude, right.magnitude)
    grids = [grid_of(value) for value in node.inputs]
    if all(grids):
        error = error + np.prod([grid.scale for grid in grids if grid is not None])
    return [between(corners.min(axis=0), corners.max(axis=0)).widened(error)]


def _smaller(node: ir.Node, bounds: Bounds) -> list[Interval]:
    return [_chosen(node, bounds, np.minimum)]


def _larger(node: ir.Node, bounds: Bounds) -> list[Interval]:
    return [_chosen(node, bounds, np.maximum)]


def _chosen(node: ir.Node, bounds: Bounds, choose: np.ufunc) -> Interval:
    given = [bounds.of(value) for value in node.inputs]
    low, high = given[0].low, given[0].high
    for each in given[1:]:
        low, high = choose(low, each.low), choose(high, each.high)
    return between(low, high)


def _relu(node: ir.Node, bounds: Bounds) -> list[Interval]:
    data = bounds.of(node.inputs[0])
    return [between(np.maximum(data.low, 0), np.maximum(data.high, 0))]


def clip_limits(node: ir.Node) -> tuple[float, float] | None:
    """What a Relu or Clip clips to; None where that is computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    limits = [-np.inf, np.inf]
    for place, value in enumerate(node.inputs[1:3]):
        array = known(value)
        if value is not None and (array is None or array.size != 1):
            return None
        limits[place] = limits[place] if array is None else float(array.reshape(()))
    return limits[0], limits[1]


def _clip(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    data, limits = bounds.of(node.inputs[0]), clip_limits(node)
    return None if limits is None else [between(np.clip(data.low, *limits), np.clip(data.high, *limits))]


def _largest_in_window(node: ir.Node, bounds: Bounds) -> list[Interval]:
    data = bounds.of(node.inputs[0])
    return [data.over(range(2, data.low.ndim))]


def _mean_of_window(node: ir.Node, bounds: Bounds) -> list[Interval]:
    data = bounds.of(node.inputs[0])
    whole = data.over(range(2, data.low.ndim))
    if node.attributes.get_int("count_include_pad", 0):
        whole = whole.with_value(0.0)
    return [_averaged(whole)]


def _averaged(data: Interval) -> Interval:
    return data.widened(np.where(data.magnitude == 0, 0.0, _FEW * 64 * data.magnitude))


def _mean(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    """As of a window; integers are rescaled from sums."""
    found, grid = _reduced(node, bounds), grid_of(node.inputs[0])
    if found is None or node.inputs[0] is None:
        return None
    count = math.prod(static_shape(node.inputs[0])) / max(1, math.prod(static_shape(node.outputs[0])))
    step = 0.0 if grid is None or count == 1 else grid.scale * min(1 / count, _TWICE)
    return [_averaged(found).widened(step)]


def _extreme(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    found = _reduced(node, bounds)
    return None if found is None else [found]


def _reduced(node: ir.Node, bounds: Bounds) -> Interval | None:
    axes, data = reduced_axes(node), bounds.of(node.inputs[0])
    if axes is None:
        return None
    whole = data.over(axes)
    if node.attributes.get_int("keepdims", 1) == 1:
        return whole
    return Interval(whole.low.squeeze(axes), whole.high.squeeze(axes))


def _concat(node: ir.Node, bounds: Bounds) -> list[Interval]:
    given = [bounds.of(value) for value in node.inputs]
    rank = given[0].low.ndim
    axis = node.attributes.get_int("axis", 0) % rank
    common = [max(each.low.shape[place] for each in given) for place in range(rank)]
    parts = []
    for value, each in zip(node.inputs, given, strict=True):
        assert value is not None
        common[axis] = static_shape(value)[axis]
        parts.append(each.spread(tuple(common)))
    return [between(*(np.concatenate(arrays, axis) for arrays in zip(*((p.low, p.high) for p in parts), strict=True)))]


def _move(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    data = bounds.of(node.inputs[0])
    if data.low.size == 1:
        return [_alike(data, value) for value in node.outputs]
    assert node.inputs[0] is not None
    whole = data.spread(static_shape(node.inputs[0]))
    found = [moved(node, array) for array in (whole.low, whole.high)]
    if found[0] is None or found[1] is None:
        return None
    return [between(low, high) for low, high in zip(found[0], found[1], strict=True)]


def _alike(data: Interval, value: ir.Value) -> Interval:
    """The bounds of a tensor like `value`, all elements of which have the one bound that `data` has."""
    shape = (1,) * len(static_shape(value))
    return Interval(data.low.reshape(shape), data.high.reshape(shape))


def _pad(node: ir.Node, bounds: Bounds) -> list[Interval] | None:
    """The axes that are padded have one bound for all; a negative pad only takes away."""
    data, fill = bounds.of(node.inputs[0]), known(node.inputs[2]) if len(node.inputs) > 2 else None
    computed = len(node.inputs) > 2 and node.inputs[2] is not None and fill is None
    amounts = constant(node.inputs[1])
    if computed or amounts is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    ends = np.abs(amounts.reshape(2, -1)).sum(axis=0)
    whole = data.over(np.flatnonzero(ends).tolist())
    if node.attributes.get_string("mode", "constant") == "constant":
        whole = whole.with_value(0.0 if fill is None else float(fill.reshape(())))
    return [whole]


def _same(node: ir.Node, bounds: Bounds) -> list[Interval]:
    return [bounds.of(node.inputs[0])]


TRANSFER: dict[str, Row] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": convolution,
    "Gemm": gemm,
    "MatMul": matrix_product,
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Min": _smaller,
    "Max": _larger,
    "Relu": _relu,
    "Clip": _clip,
    "MaxPool": _largest_in_window,
    "GlobalMaxPool": _largest_in_window,
    "AveragePool": _mean_of_window,
    "GlobalAveragePool": _mean_of_window,
    "ReduceMean": _mean,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
    "Concat": _concat,
    "Pad": _pad,
    "Identity": _same,
    **dict.fromkeys(MOVES, _move),
}
