"""The bounds of every value of a model, node by node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant
from edgeprune.ir.ports import static_shape
from edgeprune.ir.quantization import read_stored
from edgeprune.passes.intervals.interval import Interval, anything, exactly


class Bounds:
    """The bounds of the values of one model, by identity."""

    def __init__(self) -> None:
        self._found: dict[int, Interval] = {}

    def of(self, value: ir.Value | None) -> Interval:
        """The bounds of `value`; those of a missing input are of no axes."""
        if value is None:
            return anything(0)
        found = self._found.get(id(value))
        if found is None:
            array = known(value)
            found = anything(len(static_shape(value))) if array is None else exactly(array)
            self._found[id(value)] = found
        return found

    def put(self, value: ir.Value, interval: Interval) -> None:
        """Set the bounds of `value`."""
        self._found[id(value)] = interval


def known(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of a constant, dequantized where it is stored in integers; None for anything computed."""
    array = constant(value)
    stored = read_stored(value) if array is None else None
    array = stored.real() if stored is not None else array
    return array if array is not None and array.dtype.kind in "fiu" else None


def propagate(model: ir.Model) -> Bounds:
    """The bounds of every value of the main graph of `model`, whose shapes are all fixed.

    They hold for every input and for every arithmetic that rounds real numbers as float32 does or sums of integers
    to the nearest (the TFLite 8-bit specification). An operator without a row gives results that can be anything.
    """
    from edgeprune.passes.intervals.transfer import TRANSFER

    bounds = Bounds()
    with np.errstate(invalid="ignore", over="ignore"):
        for node in model.graph:
            row = TRANSFER.get(node.op_type) if not node.domain else None
            found = row(node, bounds) if row is not None else None
            for value, interval in zip(node.outputs, found or [], strict=False):
                if known(value) is None:
                    bounds.put(value, interval)
    return bounds
