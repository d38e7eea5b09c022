"""Drops clamps that never act."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import bypass
from edgeprune.passes.intervals.propagate import Bounds
from edgeprune.passes.intervals.transfer import clip_limits


def drop_clamps(model: ir.Model, bounds: Bounds) -> Iterator[str]:
    """Drop every Relu and Clip whose input never leaves its limits, in place; gives their names.

    A Clip of what Round gives stays: it says what integer type that is.
    """
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type in ("Relu", "Clip") and not node.domain else None
        limits = clip_limits(node) if source is not None else None
        if source is None or limits is None or node.outputs[0].is_graph_output():
            continue
        producer = source.producer()
        if producer is not None and producer.op_type == "Round":
            continue
        data = bounds.of(source)
        if np.all(data.low >= limits[0]) and np.all(data.high <= limits[1]):
            bypass(node, source)
            yield str(node.name)
