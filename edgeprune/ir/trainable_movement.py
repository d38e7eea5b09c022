"""Rows of the trainable table that move, select and repeat values."""

from __future__ import annotations

import math

import torch

from edgeprune.ir.trainable_node import Facts, Row, Tensor


def _reshape(facts: Facts, x: Tensor, *_: Tensor) -> Tensor:
    shape = facts.integers(1, "shape") or []
    if not facts.get("allowzero", 0):
        shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return x.reshape(shape)


def _flatten(facts: Facts, x: Tensor) -> Tensor:
    axis = facts.get("axis", 1)
    rows = math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim])
    return x.reshape(rows, -1)


def _transpose(facts: Facts, x: Tensor) -> Tensor:
    return x.permute(facts.get("perm") or tuple(reversed(range(x.ndim))))


def _squeeze(facts: Facts, x: Tensor, *_: Tensor) -> Tensor:
    axes = facts.integers(1, "axes")
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(facts: Facts, x: Tensor, *_: Tensor) -> Tensor:
    axes = facts.integers(1, "axes") or []
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(facts: Facts, x: Tensor, *_: Tensor | None) -> Tensor:
    starts, ends = facts.integers(1, "starts") or [], facts.integers(2, "ends") or []
    axes, steps = facts.integers(3, "axes"), facts.integers(4)
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (index if axes is None else axes[index]) % x.ndim
        chosen = range(x.shape[axis])[slice(start, end, 1 if steps is None else steps[index])]
        if chosen.step > 0:
            x = x[(slice(None),) * axis + (slice(chosen.start, chosen.stop, chosen.step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64, device=x.device))
    return x


def _split(facts: Facts, x: Tensor, *_: Tensor | None) -> tuple[Tensor, ...]:
    axis, sizes = facts.get("axis", 0), facts.integers(1, "split")
    if sizes is None:
        sizes = [-(-x.shape[axis] // facts.outputs)] * facts.outputs
        sizes[-1] = x.shape[axis] - sum(sizes[:-1])
    return torch.split(x, sizes, dim=axis)


def _gather(facts: Facts, x: Tensor, places: Tensor) -> Tensor:
    axis = facts.get("axis", 0) % x.ndim
    wrapped = torch.where(places < 0, places + x.shape[axis], places)
    chosen = x.index_select(axis, wrapped.reshape(-1).long())
    return chosen.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _gather_elements(facts: Facts, x: Tensor, places: Tensor) -> Tensor:
    axis = facts.get("axis", 0)
    return torch.gather(x, axis, torch.where(places < 0, places + x.shape[axis], places).long())


def _expand(facts: Facts, x: Tensor, *_: Tensor) -> Tensor:
    shape = facts.integers(1) or []
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def _depth_to_space(facts: Facts, x: Tensor) -> Tensor:
    side = facts.get("blocksize")
    batch, channels, height, width = x.shape
    depth = channels // side**2
    if facts.get("mode", "DCR") == "CRD":
        blocks = x.reshape(batch, depth, side, side, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        blocks = x.reshape(batch, side, side, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, depth, height * side, width * side)


def _space_to_depth(facts: Facts, x: Tensor) -> Tensor:
    side = facts.get("blocksize")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // side, side, width // side, side).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, channels * side**2, height // side, width // side)


def _triangle(facts: Facts, x: Tensor, *_: Tensor | None) -> Tensor:
    offset = facts.integers(1) or [0]
    return torch.triu(x, offset[0]) if facts.get("upper", 1) else torch.tril(x, offset[0])


def _cumulative_sum(facts: Facts, x: Tensor, *_: Tensor) -> Tensor:
    axis = (facts.integers(1) or [0])[0]
    x = x.flip(axis) if facts.get("reverse", 0) else x
    total = x.cumsum(axis) - x if facts.get("exclusive", 0) else x.cumsum(axis)
    return total.flip(axis) if facts.get("reverse", 0) else total


MOVEMENT: dict[str, Row] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": lambda facts, *inputs: torch.cat(inputs, dim=facts.get("axis")),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Expand": _expand,
    "Tile": lambda facts, x, *_: x.repeat(facts.integers(1) or []),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _triangle,
    "CumSum": _cumulative_sum,
}
