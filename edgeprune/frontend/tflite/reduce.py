"""Reductions along axes, and the positions of extreme elements."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.values import natural

Convert = Callable[[Call], None]


def reduction(op: str) -> Convert:
    """One ONNX reduction over constant axes, in the order of axes at hand where the kept ones stay in order."""

    def convert(call: Call) -> None:
        rank = len(call.shape(0))
        axes = sorted({call.axis(number, rank) for number in call.integers(1)})
        keep, order = bool(call.option("KeepDims")), call.order(0)
        kept = [axis for axis in order if axis not in axes]
        if not keep and kept != sorted(kept):
            order = natural(rank)
        if not axes:
            call.put(call.get(0, order), order)
            return
        places = call.vector(sorted(order.index(axis) for axis in axes))
        value = _reduced(call, op, call.get(0, order), places, keep)
        call.put(value, order if keep else None)

    return convert


def _reduced(call: Call, op: str, value: ir.Value, axes: ir.Value, keep: bool) -> ir.Value:
    if value.dtype != ir.DataType.BOOL:
        return call.add(op, value, axes, keepdims=int(keep))
    number = call.add("Cast", value, to=int(ir.DataType.INT32))
    reduced = call.add(op, number, axes, keepdims=int(keep))
    return call.add("Cast", reduced, to=int(ir.DataType.BOOL))


def arg_extreme(op: str) -> Convert:
    """The index of the first largest or smallest element along one axis."""

    def convert(call: Call) -> None:
        rank = len(call.shape(0))
        axis = call.axis(call.integers(1)[0], rank)
        order = call.order(0) if axis == rank - 1 else natural(rank)
        kept = [number for number in order if number != axis]
        order = order if kept == sorted(kept) else natural(rank)
        index = call.add(op, call.get(0, order), axis=order.index(axis), keepdims=0)
        dtype = call.result().dtype
        kind = ir.DataType.INT64 if dtype is None else ir.DataType.from_numpy(dtype)
        call.put(index if kind == ir.DataType.INT64 else call.add("Cast", index, to=int(kind)))

    return convert


def top_k(call: Call) -> None:
    """The largest elements along the last axis, and where they are."""
    values, indices = call.builder.add_all(
        call.name, "TopK", [call.get(0), call.vector(call.integers(1)[:1])], {"axis": -1}, 2
    )
    call.put(values)
    call.put(call.add("Cast", indices, to=int(ir.DataType.INT32)), place=1)


def cumulative_sum(call: Call) -> None:
    """Sums of all elements up to each along one axis."""
    flags = {"exclusive": int(bool(call.option("Exclusive"))), "reverse": int(bool(call.option("Reverse")))}
    axis = call.axis(call.integers(1)[0], len(call.shape(0)))
    call.put(call.add("CumSum", call.get(0), call.constant(axis, "int64"), **flags))
