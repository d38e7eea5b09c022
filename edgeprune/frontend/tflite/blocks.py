"""Pads, and blocks of pixels as channels or batches."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of
from edgeprune.frontend.tflite.values import channels_first


def pad(call: Call) -> None:
    """PAD and PADV2: zeros, or the third input, around the data."""
    amounts = _amounts(call)
    # Channels first, where a convolution can take the padding as its own.
    is_image = len(amounts) == 4 and amounts[0] == amounts[3] == [0, 0]
    order = channels_first(4) if is_image else call.order(0)
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
