"""Movements of elements as numpy does them: where every element of a tensor goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeprune.ir.edit import constant

Move = Callable[[ir.Node, np.ndarray], list[np.ndarray] | None]
"""The outputs of a node for the array at its first input; None where it depends on what the other inputs hold."""


def moved(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    """The elements of `array` as `node` moves them to its outputs; None where that is not fixed."""
    move = MOVES.get(node.op_type) if not node.domain else None
    return move(node, array) if move is not None else None


def _integers(node: ir.Node, index: int) -> list[int] | None:
    array = constant(node.inputs[index]) if index < len(node.inputs) else None
    return None if array is None else [int(number) for number in array.reshape(-1)]


def _given(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and node.inputs[index] is not None


def reshaped_size(shape: list[int], before: tuple[int, ...], allow_zero: bool) -> list[int]:
    """The target of a Reshape with 0 (the size before) and -1 (what remains) filled in."""
    sizes = [before[axis] if size == 0 and not allow_zero else size for axis, size in enumerate(shape)]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = int(np.prod(before)) // known if known else 0
    return sizes


def _reshape(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    shape = _integers(node, 1)
    if shape is None:
        return None
    sizes = reshaped_size(shape, array.shape, node.attributes.get_int("allowzero", 0) == 1)
    return [array.reshape(sizes)] if int(np.prod(sizes)) == array.size else None


def _flatten(node: ir.Node, array: np.ndarray) -> list[np.ndarray]:
    axis = node.attributes.get_int("axis", 1)
    rows = int(np.prod(array.shape[: axis % array.ndim if axis < 0 else axis]))
    return [array.reshape(rows, -1)]


def _squeeze(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    axes = _integers(node, 1)
    if axes is None:
        return None if _given(node, 1) else [array.squeeze()]
    return [array.squeeze(tuple(axes))]


def _unsqueeze(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    axes = _integers(node, 1)
    return None if axes is None else [np.expand_dims(array, tuple(axes))]


def _transpose(node: ir.Node, array: np.ndarray) -> list[np.ndarray]:
    return [array.transpose(node.attributes.get_ints("perm", list(range(array.ndim))[::-1]))]


def _slice(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    vectors = [_integers(node, index) for index in range(1, 5)]
    if any(vector is None and _given(node, index + 1) for index, vector in enumerate(vectors)):
        return None
    starts, ends = vectors[0] or [], vectors[1] or []
    axes = vectors[2] if vectors[2] is not None else list(range(len(starts)))
    steps = vectors[3] if vectors[3] is not None else [1] * len(starts)
    picks = [slice(None)] * array.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = array.shape[axis]
        picks[axis] = slice(start, None if step < 0 and end < -size else end, step)
    return [array[tuple(picks)]]


def _split(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    sizes, axis = _integers(node, 1), node.attributes.get_int("axis", 0)
    if sizes is None:
        return None
    return np.split(array, np.cumsum(sizes)[:-1], axis)


def _gather(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    indices = constant(node.inputs[1])
    return None if indices is None else [array.take(indices, node.attributes.get_int("axis", 0))]


def _expand(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    shape = _integers(node, 1)
    return None if shape is None else [np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(shape)))]


def _tile(node: ir.Node, array: np.ndarray) -> list[np.ndarray] | None:
    repeats = _integers(node, 1)
    return None if repeats is None else [np.tile(array, repeats)]


def _depth_to_space(node: ir.Node, array: np.ndarray) -> list[np.ndarray]:
    block = node.attributes.get_int("blocksize", 1)
    batch, channels, height, width = array.shape
    deep = channels // block**2
    if node.attributes.get_string("mode", "DCR") == "DCR":
        turned = array.reshape(batch, block, block, deep, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        turned = array.reshape(batch, deep, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    return [turned.reshape(batch, deep, height * block, width * block)]


def _space_to_depth(node: ir.Node, array: np.ndarray) -> list[np.ndarray]:
    block = node.attributes.get_int("blocksize", 1)
    batch, channels, height, width = array.shape
    blocks = array.reshape(batch, channels, height // block, block, width // block, block)
    return [blocks.transpose(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // block, width // block)]


MOVES: dict[str, Move] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
