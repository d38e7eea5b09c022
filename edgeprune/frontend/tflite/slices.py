"""Parts of tensors: splits and slices."""

from __future__ import annotations

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.values import natural

_MASKS = ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")


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


def unpack(call: Call) -> None:
    """One output for each entry along an axis."""
    shape = call.shape(0)
    axis = call.axis(int(call.option("Axis")), len(shape))
    if shape[axis] != len(call.operator.outputs):
        raise call.corrupt(f"{shape[axis]} entries do not fit {len(call.operator.outputs)} outputs")
    for place, part in enumerate(call.split(call.get(0), [1] * shape[axis], axis)):
        call.put_moved(call.reshaped(part, (*shape[:axis], *shape[axis + 1 :])), place=place)


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


def reverse(call: Call) -> None:
    """Axes walked backwards."""
    axes = [call.axis(number, len(call.shape(0))) for number in call.integers(1)]
    ends = [-(call.shape(0)[axis] + 1) for axis in axes]
    steps = (call.vector(numbers) for numbers in ([-1] * len(axes), ends, axes, [-1] * len(axes)))
    call.put_moved(call.add("Slice", call.get(0), *steps))
