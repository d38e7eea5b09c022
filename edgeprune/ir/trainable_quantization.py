"""Quantization in training: values take the numbers that integers can hold, and gradients pass straight through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.ir.edit import constant
from edgeprune.ir.trainable_clip import Span, clipped, span_of
from edgeprune.ir.trainable_node import Facts, Row, Tensor

Bound = float | Tensor


class _FakeQuantized(torch.autograd.Function):
    """Whole numbers times a scale: within the bounds, the gradient of what is rounded is one, beyond them zero.

    That of the scale is Esser et al.'s ("Learned Step Size Quantization", 2020), without their factor. A `span` is
    what `x` would have been limited to before.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, low: Bound, high: Bound, span: Span | None) -> Tensor:
        steps = x.div(scale)
        if isinstance(low, Tensor) or isinstance(high, Tensor) or scale.ndim:
            context.save_for_backward(steps, scale)
            context.bounds = (low, high)
            context.passed = (low - 0.5, high + 0.5)
            return _limited(steps.round(), low, high).mul_(scale)
        context.save_for_backward(x, scale)
        context.bounds = (low, high)
        step = scale.item()
        below, above = (low - 0.5) * step, (high + 0.5) * step
        if span is not None:
            low, high = _within(span, step, low, high)
            below, above = max(below, span.below), min(above, span.above)
        context.passed = (below, above)
        return steps.round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (seen, scale), (gradient,) = context.saved_tensors, gradients
        own = _passed(gradient, seen, *context.passed) if context.needs_input_grad[0] else None
        if not context.needs_input_grad[1]:
            return own, None, None, None, None
        return own, _of_scale(gradient, seen if scale.ndim else seen / scale, scale, *context.bounds), None, None, None


class _StraightThrough(torch.autograd.Function):
    """A rounding that gradients do not see (Bengio et al., 2013)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(x)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _steps(x: Tensor, scale: Tensor, low: Bound, high: Bound) -> Tensor:
    return _limited(x.div(scale).round_(), low, high)


def _limited(whole: Tensor, low: Bound, high: Bound) -> Tensor:
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return torch.minimum(torch.maximum(whole, torch.as_tensor(low)), torch.as_tensor(high))
    return whole.clamp_(low, high)


def _within(span: Span, step: float, low: float, high: float) -> tuple[float, float]:
    """The bounds in whole steps of what was limited to `span` before it was rounded."""
    lowest, highest = (float(np.rint(np.float32(bound) / np.float32(step))) for bound in (span.low, span.high))
    return min(max(low, lowest), high), max(min(high, highest), low)


def _passed(gradient: Tensor, x: Tensor, low: Bound, high: Bound) -> Tensor:
    """The gradient where `x` is between the bounds, zero elsewhere."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return gradient * ((x > low) & (x < high))
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, low, high)
    return passed


def _of_scale(gradient: Tensor, steps: Tensor, scale: Tensor, low: Bound, high: Bound) -> Tensor:
    whole = _limited(steps.round(), low, high)
    inside = (steps > low - 0.5) & (steps < high + 0.5)
    return (gradient * torch.where(inside, whole - steps, whole)).sum_to_size(scale.shape)


def straight_through(rounding: Callable[[Tensor], Tensor]) -> Row:
    """A row that rounds and lets gradients pass."""

    def row(_: Facts, x: Tensor) -> Tensor:
        result: Tensor = _StraightThrough.apply(x, rounding)
        return result

    return row


@dataclass(frozen=True)
class Grid:
    """What integers of one dtype and zero point can stand for: scale times `low` to `high`, both about zero.

    `zero` is the zero point. Where there is one scale for each place along an axis, `column` is the shape that it
    takes beside the values; the other three have that shape where they differ along the axis, else they are numbers.
    """

    low: Bound
    high: Bound
    zero: Bound
    column: tuple[int, ...] = ()

    def fake_quantize(self, x: Tensor, scale: Tensor, span: Span | None = None) -> Tensor:
        """`x` on the grid: rounded half to even as ONNX does, and clipped; gradients pass straight through.

        With a `span`, for one scale that is not learned, `x` is limited to that before.
        """
        low, high = self._at(self.low, x), self._at(self.high, x)
        found: Tensor = _FakeQuantized.apply(x, scale.reshape(self.column), low, high, span)
        return found

    def whole(self, x: Tensor, scale: Tensor) -> Tensor:
        """The integers that `x` is stored as, in its own dtype."""
        steps = self.fake_quantize(x, scale) / scale.reshape(self.column)
        rounded: Tensor = _StraightThrough.apply(steps, torch.round)
        return rounded + self._at(self.zero, x)

    def steps(self, x: Tensor, scale: Tensor) -> Tensor:
        """As `whole`, less the zero point, without a gradient."""
        return _steps(x, scale.reshape(self.column), self._at(self.low, x), self._at(self.high, x))

    def real(self, whole: Tensor, scale: Tensor) -> Tensor:
        """What stored integers stand for, in float32."""
        return (whole.float() - self._at(self.zero, whole)) * scale.reshape(self.column)

    @staticmethod
    def _at(bound: Bound, x: Tensor) -> Bound:
        return bound.to(x.device) if isinstance(bound, Tensor) else bound


def grid_of(facts: Facts, stored: np.ndarray | None = None) -> Grid:
    """The grid of a QuantizeLinear, or of a DequantizeLinear that reads `stored` (None: what its zero point is of).

    Raises EdgepruneError (op-untrainable) where the scale is computed, no positive number or one for each block, or
    where the values are no integers.
    """
    scale, zero = facts.constant(1), facts.constant(2)
    if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise facts.refuse("its scale is not a positive number")
    if facts.get("block_size", 0):
        raise facts.refuse("it has one scale for each block")
    given = next((array.dtype for array in (stored, zero) if array is not None), None)
    dtype = ir.DataType(facts.get("output_dtype") or ir.DataType.UINT8).numpy() if given is None else given
    kind = ir.DataType.from_numpy(dtype)
    if not kind.is_integer():
        raise facts.refuse(f"its values are {dtype}, which are no integers")
    lowest, highest = limits_of(kind)
    zeros = np.zeros((), np.float32) if zero is None else zero.astype(np.float32)
    if scale.size == 1:
        middle = float(zeros.reshape(-1)[0])
        return Grid(lowest - middle, highest - middle, middle)
    column = _column(facts, scale.size)
    if (zeros == zeros.reshape(-1)[0]).all():
        middle = float(zeros.reshape(-1)[0])
        return Grid(lowest - middle, highest - middle, middle, column)
    middles = torch.from_numpy(np.broadcast_to(zeros, scale.shape).reshape(column).copy())
    return Grid(lowest - middles, highest - middles, middles, column)


def limits_of(dtype: ir.DataType) -> tuple[float, float]:
    """The smallest and the largest integer of `dtype`."""
    if dtype.is_signed():
        return -(2.0 ** (dtype.bitwidth - 1)), 2.0 ** (dtype.bitwidth - 1) - 1
    return 0.0, 2.0**dtype.bitwidth - 1


def _column(facts: Facts, count: int) -> tuple[int, ...]:
    """The shape of `count` scales beside the values, without the axes before theirs."""
    axis, rank = int(facts.get("axis", 1)), facts.rank
    if axis >= 0 and rank is None:
        raise facts.refuse("the shape of its input is not known")
    after = -axis - 1 if axis < 0 or rank is None else rank - axis - 1
    return (count,) + (1,) * after


def quantize(facts: Facts, x: Tensor, scale: Tensor, _: Tensor | None = None) -> Tensor:
    """ONNX QuantizeLinear: the stored integers, as float32 that gradients pass."""
    return grid_of(facts).whole(x, scale)


def dequantize(facts: Facts, whole: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """ONNX DequantizeLinear."""
    return grid_of(facts, np.zeros(0, np.int32) if zero is None else None).real(whole, scale)


def on_grid(facts: Facts, stored: np.ndarray | None = None, copies: int = 1, before: Facts | None = None) -> Row:
    """The row of a QuantizeLinear with the DequantizeLinear that read it, `copies` in number, or of a trained weight.

    A weight is a float32 tensor here, in place of what is `stored`. `before` is a Relu or Clip that comes first.
    """
    grid = grid_of(facts, stored)
    span = None if before is None else span_of(before)

    def row(_: Facts, x: Tensor, scale: Tensor, __: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        if span is not None and scale.requires_grad:
            found = grid.fake_quantize(clipped(x, span), scale)
        else:
            found = grid.fake_quantize(x, scale, span)
        return found if copies == 1 else (found,) * copies

    return row


def pairs_of(nodes: Sequence[ir.Node]) -> dict[ir.Node, list[ir.Node]]:
    """Each QuantizeLinear that only DequantizeLinear of the same scale and zero point read, with these."""
    found = {}
    for node in nodes:
        if node.op_type != "QuantizeLinear" or node.outputs[0].is_graph_output():
            continue
        readers = [usage.node for usage in node.outputs[0].uses()]
        if readers and all(_undoes(reader, node) for reader in readers):
            found[node] = readers
    return found


def _undoes(reader: ir.Node, node: ir.Node) -> bool:
    axes = [each.attributes.get_int("axis", 1) for each in (reader, node)]
    if reader.op_type != "DequantizeLinear" or axes[0] != axes[1]:
        return False
    return all(_same(*pair) for pair in zip(_parameters(reader), _parameters(node), strict=True))


def _parameters(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    return node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None


def _same(one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is other:
        return True
    first, second = constant(one), constant(other)
    return first is not None and second is not None and np.array_equal(first, second)


TOGETHER = ("QuantizeLinear", "DequantizeLinear")
"""Ops that treat every row alike, wherever it is in a batch."""

QUANTIZATION: dict[str, Row] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Round": straight_through(torch.round),
    "Floor": straight_through(torch.floor),
    "Ceil": straight_through(torch.ceil),
}
