"""Operators that give tensors other shapes, join or repeat them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.values import channels_first, natural


def reshape(call: Call) -> None:
    """The shape comes as an input or as an option; -1 stands for the rest."""
    if call.has(1) and (call.tensor(1).data is not None or call.values.known(call.index(1))):
        shape = call.integers(1)
    else:
        shape = list(call.option("NewShape", call.result().shape))
    _reshape(call, shape)


def squeeze(call: Call) -> None:
    """Drops axes of size 1: those named, or all."""
    shape = call.shape(0)
    named = call.option("SqueezeDims", ())
    axes = {call.axis(number, len(shape)) for number in named} or {a for a, size in enumerate(shape) if size == 1}
    if any(shape[axis] != 1 for axis in axes):
        raise call.corrupt(f"axes {sorted(axes)} of {list(shape)} are not all of size 1")
    _reshape(call, [size for axis, size in enumerate(shape) if axis not in axes])


def expand_dims(call: Call) -> None:
    """Puts in an axis of size 1."""
    shape = list(call.shape(0))
    axis = call.axis(call.integers(1)[0], len(shape) + 1)
    _reshape(call, [*shape[:axis], 1, *shape[axis:]])


def _reshape(call: Call, wanted: list[int]) -> None:
    shape = call.shape(0)
    count, known = math.prod(shape), math.prod(size for size in wanted if size != -1)
    if wanted.count(-1) > 1 or any(size < -1 for size in wanted) or (-1 in wanted and (not known or count % known)):
        raise call.corrupt(f"{list(shape)} cannot have the shape {wanted}")
    wanted = [count // known if size == -1 else size for size in wanted]
    if math.prod(wanted) != count:
        raise call.corrupt(f"{list(shape)} cannot have the shape {wanted}")
    order = call.order(0)
    if order != natural(len(shape)) and _keeps_channels(shape, wanted):
        target = channels_first(len(wanted))
        call.put_moved(call.reshaped(call.get(0, order), [wanted[axis] for axis in target]), target)
    else:
        call.put_moved(call.reshaped(call.get(0), wanted))


def _keeps_channels(shape: tuple[int, ...], wanted: list[int]) -> bool:
    """Whether batch and channels stay and only axes of size 1 come or go between them."""
    if len(wanted) < 3 or shape[0] != wanted[0] or shape[-1] != wanted[-1]:
        return False
    return [size for size in shape[1:-1] if size != 1] == [size for size in wanted[1:-1] if size != 1]


def transpose(call: Call) -> None:
    """Axes in another order."""
    turn, rank = call.integers(1), len(call.shape(0))
    if sorted(turn) != list(range(rank)):
        raise call.corrupt(f"{turn} is no order of {rank} axes")
    order = call.order(0)
    if order == natural(rank):
        call.put_moved(call.values.turned(call.get(0), turn))
    else:  # the result is there already: in the order that names its axes by the old ones
        call.put_moved(call.get(0, order), tuple(turn.index(axis) for axis in order))


def concatenation(call: Call) -> None:
    """All inputs one after another along an axis."""
    places = range(len(call.operator.inputs))
    order = call.common_order(*places)
    axis = call.axis(int(call.option("Axis")), len(order))
    value = call.add("Concat", *(call.get(place, order) for place in places), axis=order.index(axis))
    _put_joined(call, value, order)


def _put_joined(call: Call, value: ir.Value, order: tuple[int, ...] | None = None) -> None:
    """Rounds only where an input stores numbers unlike the output."""
    result = call.result()
    tensors = [call.tensor(place) for place in range(len(call.operator.inputs))]
    unlike = (
        n for n, t in enumerate(tensors) if t.quantization is None or not t.quantization.equals(result.quantization)
    )
    call.put_moved(value, order, source=next(unlike, 0))


def pack(call: Call) -> None:
    """All inputs stacked along a new axis."""
    rank = len(call.shape(0)) + 1
    axis = call.axis(int(call.option("Axis")), rank)
    places = range(len(call.operator.inputs))
    parts = [call.add("Unsqueeze", call.get(place), call.vector([axis])) for place in places]
    _put_joined(call, call.add("Concat", *parts, axis=axis))


def tile(call: Call) -> None:
    """The data repeated along its axes."""
    call.put_moved(call.add("Tile", call.get(0), call.vector(call.integers(1))))


def broadcast_to(call: Call) -> None:
    """The data repeated to a shape."""
    call.put_moved(call.add("Expand", call.get(0), call.vector(call.integers(1))))


def fill(call: Call) -> None:
    """One number in a given shape."""
    shape = call.integers(0)
    if any(size < 0 for size in shape):
        raise call.corrupt(f"the shape {shape}")
    call.put_moved(call.add("Expand", call.get(1), call.vector(shape)), source=1)


def shape(call: Call) -> None:
    """The shape of the input, which is known."""
    call.put(call.constant(call.shape(0), _integer_type(call)))


def rank(call: Call) -> None:
    """The number of axes of the input."""
    call.put(call.constant(len(call.shape(0)), _integer_type(call)))


def integer_range(call: Call) -> None:
    """Numbers from a start to a limit."""
    call.put(call.add("Range", *(call.reshaped(call.get(place), ()) for place in range(3))))


def _integer_type(call: Call) -> np.dtype:
    dtype = call.result().dtype
    return np.dtype(np.int32) if dtype is None else dtype
