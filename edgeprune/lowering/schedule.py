"""Plain loop schedules for the operations that no kernel family covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_walk

_SPATIAL, _REDUCTION = 0, 2
_TILE = 32
_CHUNK = 1024


def schedule(func: Any) -> Any:
    """`func` with elementwise steps inlined, reductions in registers and the outer loops marked parallel."""
    plan = s_tir.Schedule(tvm.IRModule({"main": func}), error_render_level="none")
    _inline(plan)
    for block in _blocks(plan):
        _arrange(plan, block)
    return plan.mod["main"]


def _blocks(plan: Any) -> list[Any]:
    return list(plan.get_child_blocks(plan.get_sblock("root")))


@dataclass(frozen=True)
class _Loops:
    spatial: list[Any]
    reduction: list[Any]
    extents: list[int]


def _kinds(plan: Any, block: Any) -> list[int]:
    return [int(axis.iter_type) for axis in plan.get(block).iter_vars]


def _size(plan: Any, block: Any) -> int:
    size = 1
    for axis in plan.get(block).iter_vars:
        size *= int(axis.dom.extent)
    return size


def _calls(plan: Any, block: Any) -> bool:
    found: list[Any] = []
    structural_walk(plan.get(block).body, (tvm.ir.Call, lambda call: found.append(call)))
    return any(getattr(call.op, "name", "") != "tirx.if_then_else" for call in found)


def _inline(plan: Any) -> None:
    for block in _blocks(plan):
        consumers = plan.get_consumers(block)
        if not consumers or any(kind != _SPATIAL for kind in _kinds(plan, block)):
            continue
        again = sum(_size(plan, consumer) for consumer in consumers)
        if _calls(plan, block) and again > _size(plan, block):
            continue
        # Refused where the block is an output or writes with other than its own indices: then it stays.
        _attempt(plan.compute_inline, block)


def _attempt(action: Any, *arguments: Any) -> bool:
    try:
        action(*arguments)
    except (s_tir.ScheduleError, tvm.error.InternalError, ValueError):
        return False
    return True


def _loops(plan: Any, block: Any) -> _Loops | None:
    """The block's loops by kind, or None unless each loop is one axis of the block."""
    loops = plan.get_loops(block)
    kinds = _kinds(plan, block)
    if len(loops) != len(kinds) or any(kind not in (_SPATIAL, _REDUCTION) for kind in kinds):
        return None
    if not all(isinstance(plan.get(loop).extent, tirx.IntImm) for loop in loops):
        return None
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _SPATIAL]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _REDUCTION]
    return _Loops(spatial, reduction, [int(plan.get(loop).extent) for loop in spatial])


def _arrange(plan: Any, block: Any) -> None:
    loops = _loops(plan, block)
    if loops is None or not loops.spatial:
        return
    if loops.reduction:
        _reduce(plan, block, loops)
    else:
        _map(plan, loops)


def _map(plan: Any, loops: _Loops) -> None:
    *outer, inner = loops.spatial
    if outer:
        plan.parallel(plan.fuse(*outer) if len(outer) > 1 else outer[0])
    elif loops.extents[-1] % _CHUNK == 0 and loops.extents[-1] > _CHUNK:
        plan.parallel(plan.split(inner, [None, _CHUNK])[0])


def _reduce(plan: Any, block: Any, loops: _Loops) -> None:
    """Outer spatial loops, then the reduction, then a tile of the innermost spatial loop kept in registers."""
    *outer, inner = loops.spatial
    tile = next((size for size in (_TILE, 16, 8) if loops.extents[-1] % size == 0), 0)
    if tile and len(plan.get(block).writes) == 1:
        far, near = plan.split(inner, [None, tile])
        plan.reorder(*outer, far, *loops.reduction, near)
        outer = [*outer, far]
        parallel = plan.fuse(*outer) if len(outer) > 1 else outer[0]
        copy = plan.cache_write(block, 0, "local")
        plan.reverse_compute_at(copy, parallel)
        plan.parallel(parallel)
        plan.vectorize(near)
        plan.vectorize(plan.get_loops(copy)[-1])
        start = plan.decompose_reduction(block, plan.get_loops(block)[1])
        plan.vectorize(plan.get_loops(start)[-1])
    else:
        plan.reorder(*loops.spatial, *loops.reduction)
        parallel = plan.fuse(*loops.spatial) if len(loops.spatial) > 1 else loops.spatial[0]
        plan.parallel(parallel)
        plan.decompose_reduction(block, plan.get_loops(block)[1])
