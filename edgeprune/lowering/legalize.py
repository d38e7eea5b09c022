"""TensorIR for Relax operations that TVM would hand to a library of its own at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax, te, tirx


def legalizations() -> dict[str, Callable[[Any, Any], Any]]:
    """The table for Relax's LegalizeOps: operation name to (block builder, call) -> expression."""
    return {
        "relax.cumsum": _cumulative_sum,
        "relax.gather_elements": _gather_elements,
        "relax.gather_nd": _gather_nd,
        "relax.take": _take,
        "relax.topk": _top_k,
    }


def _take(builder: Any, call: Any) -> Any:
    """An index beyond the data reads its nearest entry: indices may come from outside, and nothing may read further."""
    data, indices = call.args
    return builder.call_te(tvm.topi.take, data, indices, call.attrs.axis, mode="clip", primfunc_name_hint="take")


def _gather_elements(builder: Any, call: Any) -> Any:
    axis = int(call.attrs.axis)

    def compute(data: Any, indices: Any) -> Any:
        place = axis % len(data.shape)

        def element(*at: Any) -> Any:
            return data(*at[:place], _within(indices, at, data.shape[place]), *at[place + 1 :])

        return te.compute(indices.shape, element, name="gather_elements")

    return builder.call_te(compute, *call.args, primfunc_name_hint="gather_elements")


def _gather_nd(builder: Any, call: Any) -> Any:
    """Rows of `indices` along its last axis are places in `data`, after `batch_dims` axes that both share."""
    batch = int(call.attrs.batch_dims)

    def compute(data: Any, indices: Any) -> Any:
        rows, depth = len(indices.shape) - 1, int(indices.shape[-1])

        def element(*at: Any) -> Any:
            numbers = [_within(indices, (*at[:rows], k), data.shape[batch + k]) for k in range(depth)]
            return data(*at[:batch], *numbers, *at[rows:])

        return te.compute([*indices.shape[:-1], *data.shape[batch + depth :]], element, name="gather_nd")

    return builder.call_te(compute, *call.args, primfunc_name_hint="gather_nd")


def _within(indices: Any, at: tuple[Any, ...], extent: Any) -> Any:
    last = tirx.const(int(extent) - 1, indices.dtype)
    return tirx.max(tirx.min(indices(*at), last), tirx.const(0, indices.dtype))


def _cumulative_sum(builder: Any, call: Any) -> Any:
    exclusive = bool(call.attrs.exclusive)

    def compute(x: Any) -> Any:
        axis = _axis(call, x)
        k = te.reduce_axis((0, x.shape[axis]), name="k")

        def term(*at: Any) -> Any:
            counted = k < at[axis] if exclusive else k <= at[axis]
            value = x(*at[:axis], k, *at[axis + 1 :])
            return te.sum(tirx.if_then_else(counted, value, tirx.const(0, x.dtype)), axis=k)

        return te.compute(x.shape, term, name="cumulative_sum")

    return builder.call_te(compute, call.args[0], primfunc_name_hint="cumulative_sum")


def _axis(call: Any, x: Any) -> int:
    return int(-1 if call.attrs.axis is None else call.attrs.axis) % len(x.shape)


def _top_k(builder: Any, call: Any) -> Any:
    """Each element's rank is the number of those before it; the element of rank r goes to place r."""
    largest, count = bool(call.attrs.largest), int(call.attrs.k)
    index_dtype = str(tvm.DataType(str(call.attrs.dtype)))

    def compute(x: Any) -> list[Any]:
        axis = _axis(call, x)
        rank = _rank(x, axis, largest)
        shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]
        indices = _at_rank(rank, shape, axis, index_dtype)

        def value(*at: Any) -> Any:
            return x(*at[:axis], indices(*at), *at[axis + 1 :])

        return [te.compute(shape, value, name="values"), indices]

    pair = builder.call_te(compute, call.args[0], primfunc_name_hint="top_k")
    kept = {"both": pair, "values": [0], "indices": [1]}[str(call.attrs.ret_type)]
    return pair if kept is pair else relax.TupleGetItem(builder.emit(pair), kept[0])


def _rank(x: Any, axis: int, largest: bool) -> Any:
    j = te.reduce_axis((0, x.shape[axis]), name="j")

    def term(*at: Any) -> Any:
        other, own = x(*at[:axis], j, *at[axis + 1 :]), x(*at)
        ahead = other > own if largest else other < own
        first = tirx.all(tirx.EQ(other, own), j < at[axis])
        return te.sum(tirx.if_then_else(tirx.any(ahead, first), 1, 0), axis=j)

    return te.compute(x.shape, term, name="rank")


def _at_rank(rank: Any, shape: list[Any], axis: int, dtype: str) -> Any:
    i = te.reduce_axis((0, rank.shape[axis]), name="i")

    def term(*at: Any) -> Any:
        here = tirx.EQ(rank(*at[:axis], i, *at[axis + 1 :]), at[axis])
        return te.sum(tirx.if_then_else(here, i.var, 0).astype(dtype), axis=i)

    return te.compute(shape, term, name="indices")
