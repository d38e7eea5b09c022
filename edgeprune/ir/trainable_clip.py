"""Activations that limit values, with gradients that cost one pass over memory each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgeprune.ir.trainable_node import Facts, Tensor


@dataclass(frozen=True)
class Span:
    """Values end up in `low` to `high`; gradients pass where they were strictly between `below` and `above`."""

    low: float
    high: float
    below: float
    above: float


class _Clipped(torch.autograd.Function):
    """A clamp whose gradient is one where nothing was changed, the bounds included."""

    @staticmethod
    def forward(context: Any, x: Tensor, span: Span) -> Tensor:
        context.save_for_backward(x)
        context.span = span
        return x.clamp(span.low, span.high)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), span = context.saved_tensors, context.span
        return torch.ops.aten.hardtanh_backward(gradients[0], x, span.below, span.above), None


def span_of(facts: Facts) -> Span | None:
    """What a Relu or a Clip limits values to; None where it limits nothing, and for any other op.

    Raises EdgepruneError (op-untrainable) where the bounds of a Clip are computed.
    """
    if facts.op == "Relu":
        return Span(0.0, math.inf, 0.0, math.inf)
    if facts.op != "Clip":
        return None
    lowest, highest = (_bound(facts, index, key) for index, key in ((1, "min"), (2, "max")))
    if lowest is None and highest is None:
        return None
    low, high = -math.inf if lowest is None else lowest, math.inf if highest is None else highest
    beyond = (np.nextafter(np.float32(bound), np.float32(end)) for bound, end in ((low, -np.inf), (high, np.inf)))
    return Span(low, high, *(float(number) for number in beyond))


def _bound(facts: Facts, index: int, key: str) -> float | None:
    array = facts.constant(index)
    given = facts.get(key) if array is None else array.item()
    return None if given is None else float(given)


def clip(facts: Facts, x: Tensor, *_: Tensor | None) -> Tensor:
    """ONNX Clip."""
    span = span_of(facts)
    if span is None:
        return x
    if not x.is_floating_point():
        return x.clamp(*(int(bound) if math.isfinite(bound) else None for bound in (span.low, span.high)))
    return x.clamp(span.low, span.high) if x.dtype != torch.float32 else clipped(x, span)


def relu_in_place(_: Facts, x: Tensor) -> Tensor:
    """ONNX Relu of what nothing else reads."""
    return torch.relu(x) if x._is_view() else torch.relu_(x)


def clipped(x: Tensor, span: Span) -> Tensor:
    """`x` limited to `span`."""
    found: Tensor = _Clipped.apply(x, span)
    return found
