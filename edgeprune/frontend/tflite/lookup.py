"""Operators that read entries by index."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.frontend.tflite.call import Call


def gather(call: Call) -> None:
    """Entries along one axis."""
    if call.option("BatchDims"):
        raise call.refuse("batch axes")
    axis = call.axis(int(call.option("Axis")), len(call.shape(0)))
    call.put_moved(call.add("Gather", call.get(0), call.get(1), axis=axis))


def gather_nd(call: Call) -> None:
    """Entries by the coordinates in the last axis of the indices."""
    indices = call.add("Cast", call.get(1), to=int(ir.DataType.INT64))
    call.put_moved(call.add("GatherND", call.get(0), indices))


def embedding_lookup(call: Call) -> None:
    """Rows of a table, which is the second input."""
    call.put_moved(call.add("Gather", call.get(1), call.get(0), axis=0), source=1)


def one_hot(call: Call) -> None:
    """A row with one number at each index and another elsewhere."""
    depth = call.vector(call.integers(1)[:1])
    off, on = (call.reshaped(call.get(place), (1,)) for place in (3, 2))
    values = call.add("Concat", off, on, axis=0)
    indices = call.add("Cast", call.get(0), to=int(ir.DataType.INT64))
    call.put(call.add("OneHot", indices, depth, values, axis=int(call.option("Axis", -1))))
