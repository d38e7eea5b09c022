"""Operators that only move elements: shapes, slices, joins, pads."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of
from edgeprune.frontend.tflite.values import channels_first, natural

_MASKS = ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")


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


def unpack(call: Call) -> None:
    """One output for each entry along an axis."""
    shape = call.shape(0)
    axis = call.axis(int(call.option("Axis")), len(shape))
    if shape[axis] != len(call.operator.outputs):
        raise call.corrupt(f"{shape[axis]} entries do not fit {len(call.operator.outputs)} outputs")
    for place, part in enumerate(call.split(call.get(0), [1] * shape[axis], axis)):
        call.put_moved(call.reshaped(part, (*shape[:axis], *shape[axis + 1 :])), place=place)


def split(call: Call) -> None:
    """Equal parts along an axis, which is the first input."""
    rank, count = len(call.shape(1)), len(call.operator.outputs)
    axis = call.axis(call.integers(0)[0], rank)
    size = call.shape(1)[axis]
    if size % count:
        raise call.corrupt(f"{size} entries do not fall into {count} parts")
    _split(call, 1, [size // count] * count, axis)


def split_v(call: Call) -> None:
    """Parts of given sizes along an axis; -1 stands for the rest."""
    sizes, size = call.integers(1), call.shape(0)
    axis = call.axis(call.integers(2)[0], len(size))
    rest = size[axis] - sum(number for number in sizes if number >= 0)
    sizes = [rest if number == -1 else number for number in sizes]
    if len(sizes) != len(call.operator.outputs) or sum(sizes) != size[axis] or min(sizes) < 0:
        raise call.corrupt(f"{size[axis]} entries do not fall into parts of {sizes}")
    _split(call, 0, sizes, axis)


def _split(call: Call, source: int, sizes: list[int], axis: int) -> None:
    order = call.order(source)
    for place, part in enumerate(call.split(call.get(source, order), sizes, order.index(axis))):
        call.put_moved(part, order, place, source)


def cut(call: Call) -> None:
    """SLICE: where each axis begins, and how many entries; -1 stands for the rest."""
    begins, sizes, shape = call.integers(1), call.integers(2), call.shape(0)
    if not len(begins) == len(sizes) == len(shape):
        raise call.corrupt(f"{begins} and {sizes} do not fit {list(shape)}")
    ends = [full if size == -1 else begin + size for begin, size, full in zip(begins, sizes, shape, strict=True)]
    if any(not 0 <= begin <= end <= full for begin, end, full in zip(begins, ends, shape, strict=True)):
        raise call.corrupt(f"{begins} to {ends} leads out of {list(shape)}")
    order = call.order(0)
    bounds = [call.vector([numbers[axis] for axis in order]) for numbers in (begins, ends)]
    call.put_moved(call.add("Slice", call.get(0, order), *bounds), order)


def strided_slice(call: Call) -> None:
    """Slices by begin, end and step, with masks for whole axes, new ones, and single entries whose axis goes."""
    shape = call.shape(0)
    plan = _slice_plan(call, shape)
    value, order = call.get(0), natural(len(shape))
    cuts = [(axis, each) for axis, each in enumerate(plan.ranges) if each != range(shape[axis])]
    if cuts:
        order = call.order(0) if plan.keeps_axes else order
        ends = [each.stop if each.stop >= 0 else -(shape[axis] + 1) for axis, each in cuts]
        numbers = ([each.start for _, each in cuts], ends, [order.index(a) for a, _ in cuts], [r.step for _, r in cuts])
        value = call.add("Slice", call.get(0, order), *(call.vector(vector) for vector in numbers))
    if plan.keeps_axes:
        call.put_moved(value, order)
    else:
        call.put_moved(call.reshaped(value, plan.shape))


class _SlicePlan:
    """What a strided slice takes of every axis, and the shape of the result."""

    def __init__(self) -> None:
        self.ranges: list[range] = []
        self.shape: list[int] = []
        self.keeps_axes = True

    def take(self, size: int, begin: int | None, end: int | None, step: int) -> None:
        each = range(size)[slice(begin, end, step)]
        self.ranges.append(each)
        self.shape.append(len(each))

    def pick(self, size: int, index: int) -> None:
        place = index + size if index < 0 else index
        if not 0 <= place < size:
            raise ValueError(f"there is no entry {index} among {size}")
        self.ranges.append(range(place, place + 1))
        self.keeps_axes = False

    def insert(self) -> None:
        self.shape.append(1)
        self.keeps_axes = False


def _slice_plan(call: Call, shape: tuple[int, ...]) -> _SlicePlan:
    begins, ends, strides = (call.integers(place) for place in (1, 2, 3))
    begin_mask, end_mask, ellipsis, new_axis, shrink = (int(call.option(name)) for name in _MASKS)
    if not len(begins) == len(ends) == len(strides) or 0 in strides:
        raise call.corrupt("begins, ends and strides do not fit each other")
    plan = _SlicePlan()
    given = sum(1 for place in range(len(begins)) if not (new_axis | ellipsis) >> place & 1)
    for place, (begin, end, step) in enumerate(zip(begins, ends, strides, strict=True)):
        axis = len(plan.ranges)
        if ellipsis >> place & 1:
            for size in shape[axis : axis + max(0, len(shape) - given)]:
                plan.take(size, None, None, 1)
        elif new_axis >> place & 1:
            plan.insert()
        elif axis >= len(shape):
            raise call.corrupt(f"more slices than axes of {list(shape)}")
        elif shrink >> place & 1:
            plan.pick(shape[axis], begin)
        else:
            masked = (begin_mask >> place & 1, end_mask >> place & 1)
            if call.option("Offset"):
                end = begin + end
            plan.take(shape[axis], None if masked[0] else begin, None if masked[1] else end, step)
    for size in shape[len(plan.ranges) :]:
        plan.take(size, None, None, 1)
    return plan


def pad(call: Call) -> None:
    """PAD and PADV2: zeros, or the third input, around the data."""
    amounts, order = _amounts(call), call.order(0)
    fill = call.get(2) if call.has(2) else call.constant(0, _numpy_type(call.get(0)))
    _put_padded(call, amounts, [call.reshaped(fill, ())], "constant", order)


def mirror_pad(call: Call) -> None:
    """The data continued by its mirror image, with the edge (SYMMETRIC) or without it."""
    mode = int(call.option("Mode"))
    amounts = _amounts(call)
    if mode == 0:
        _put_padded(call, amounts, [], "reflect", call.order(0))
        return
    value = call.get(0)
    for axis, (before, after) in enumerate(amounts):
        size = call.shape(0)[axis]
        if max(before, after) > size:
            raise call.corrupt(f"an axis of {size} has no mirror image of {max(before, after)}")
        if before or after:
            whole = np.arange(size)
            places = np.concatenate([whole[:before][::-1], whole, whole[size - after :][::-1]])
            value = call.add("Gather", value, call.vector(places), axis=axis)
    call.put_moved(value)


def _amounts(call: Call) -> list[list[int]]:
    array, rank = call.array(1), len(call.shape(0))
    if array.shape != (rank, 2) or np.any(array < 0):
        raise call.corrupt(f"paddings of shape {list(array.shape)} do not fit {rank} axes")
    return [[int(number) for number in row] for row in array]


def _put_padded(call: Call, amounts: list[list[int]], fill: list[ir.Value], mode: str, order: tuple[int, ...]) -> None:
    pads = [amounts[axis][side] for side in (0, 1) for axis in order]
    call.put_moved(call.add("Pad", call.get(0, order), call.vector(pads), *fill, mode=mode), order)


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


def reverse(call: Call) -> None:
    """Axes walked backwards."""
    axes = [call.axis(number, len(call.shape(0))) for number in call.integers(1)]
    ends = [-(call.shape(0)[axis] + 1) for axis in axes]
    steps = (call.vector(numbers) for numbers in ([-1] * len(axes), ends, axes, [-1] * len(axes)))
    call.put_moved(call.add("Slice", call.get(0), *steps))


def depth_to_space(call: Call) -> None:
    """Blocks of channels as squares of pixels."""
    size = _block_size(call)
    value = call.add("DepthToSpace", call.get(0, channels_first(4)), blocksize=size, mode="DCR")
    call.put_moved(value, channels_first(4))


def space_to_depth(call: Call) -> None:
    """Squares of pixels as blocks of channels."""
    value = call.add("SpaceToDepth", call.get(0, channels_first(4)), blocksize=_block_size(call))
    call.put_moved(value, channels_first(4))


def _block_size(call: Call) -> int:
    size = int(call.option("BlockSize"))
    if size < 1 or len(call.shape(0)) != 4:
        raise call.corrupt(f"block size {size} for {list(call.shape(0))}")
    return size


def space_to_batch(call: Call) -> None:
    """Pads, then puts the pixels of each place in a block into a batch of their own."""
    blocks, amounts = call.integers(1), call.array(2)
    shape = call.shape(0)
    if amounts.shape != (len(blocks), 2) or len(blocks) > len(shape) - 1 or np.any(amounts < 0) or min(blocks) < 1:
        raise call.corrupt("block and paddings do not fit the data")
    full = np.zeros((len(shape), 2), np.int64)
    full[1 : 1 + len(blocks)] = amounts
    padded = call.add("Pad", call.get(0), call.vector(full.T.reshape(-1)), call.constant(0))
    batch, *sizes = shape_of(padded)
    spatial, rest = sizes[: len(blocks)], sizes[len(blocks) :]
    if any(size % block for size, block in zip(spatial, blocks, strict=True)):
        raise call.corrupt(f"blocks of {blocks} do not fit {spatial}")
    counts = [size // block for size, block in zip(spatial, blocks, strict=True)]
    folded = call.reshaped(padded, [batch, *(n for pair in zip(counts, blocks, strict=True) for n in pair), *rest])
    axes = range(len(blocks))
    turn = [
        *(2 + 2 * a for a in axes),
        0,
        *(1 + 2 * a for a in axes),
        *range(1 + 2 * len(blocks), 1 + 2 * len(blocks) + len(rest)),
    ]
    turned = call.values.turned(folded, turn)
    call.put_moved(call.reshaped(turned, [batch * math.prod(blocks), *counts, *rest]))


def batch_to_space(call: Call) -> None:
    """The reverse of `space_to_batch`, then crops."""
    blocks, crops = call.integers(1), call.array(2)
    batch, *sizes = call.shape(0)
    if crops.shape != (len(blocks), 2) or len(blocks) > len(sizes) or np.any(crops < 0) or min(blocks) < 1:
        raise call.corrupt("block and crops do not fit the data")
    if batch % math.prod(blocks):
        raise call.corrupt(f"a batch of {batch} does not fall into blocks of {blocks}")
    spatial, rest = sizes[: len(blocks)], sizes[len(blocks) :]
    count = len(blocks)
    folded = call.reshaped(call.get(0), [*blocks, batch // math.prod(blocks), *spatial, *rest])
    pairs = [number for axis in range(count) for number in (count + 1 + axis, axis)]
    turned = call.values.turned(folded, [count, *pairs, *range(2 * count + 1, 2 * count + 1 + len(rest))])
    whole = [size * block for size, block in zip(spatial, blocks, strict=True)]
    value = call.reshaped(turned, [batch // math.prod(blocks), *whole, *rest])
    if np.any(crops):
        ends = [size - int(after) for size, (_, after) in zip(whole, crops, strict=True)]
        bounds = (call.vector(numbers) for numbers in (crops[:, 0], ends, range(1, 1 + count)))
        value = call.add("Slice", value, *bounds)
    call.put_moved(value)


def _numpy_type(value: ir.Value) -> np.dtype:
    assert value.dtype is not None
    return value.dtype.numpy()


def _integer_type(call: Call) -> np.dtype:
    dtype = call.result().dtype
    return np.dtype(np.int32) if dtype is None else dtype
