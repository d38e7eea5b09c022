"""Plain loop schedules for the operations that no kernel family covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, sym, tirx
from tvm_ffi import structural_map, structural_walk

_SPATIAL, _REDUCTION = 0, 2
_TILE = 256
_CHUNK = 1024
_LANES = 8


def schedule(func: Any) -> Any:
    """`func` with elementwise steps inlined, reductions in registers and the outer loops marked parallel.

    A function that is not made of plain blocks comes back as it is.
    """
    func = _with_plain_offsets(func)
    if not isinstance(func.body, s_tir.SBlockRealize) or not _made_of_blocks(func.body.block.body):
        return func
    plan = s_tir.Schedule(tvm.IRModule({"main": func}), error_render_level="none")
    _inline(plan)
    for block in _blocks(plan):
        _arrange(plan, block)
    return plan.mod["main"]


def _with_plain_offsets(func: Any) -> Any:
    """`func` over buffers that start where their pointer points."""
    plain = {
        buffer: tirx.decl_buffer(buffer.shape, str(buffer.dtype), name=buffer.name)
        for buffer in func.params
        if not isinstance(buffer.ty.elem_offset, tirx.IntImm)
    }
    return func.specialize(plain) if plain else func


def _made_of_blocks(body: Any) -> bool:
    statements = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    return all(_is_block(statement) for statement in statements)


def _is_block(statement: Any) -> bool:
    while isinstance(statement, tirx.For):
        statement = statement.body
    return isinstance(statement, s_tir.SBlockRealize) and len(statement.block.reads) + len(statement.block.writes) > 0


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


def _strides(plan: Any, block: Any, position: int) -> list[int | None]:
    """How far each load of the block moves, in elements, with its axis `position`; None where it varies."""
    body = plan.get(block)
    axis, written = body.iter_vars[position].var, [region.source for region in body.writes]
    loads: list[Any] = []
    structural_walk(body.body, (tvm.ir.expr.TensorLoad, lambda load: loads.append(load)))
    others = [load for load in loads if not any(load.source.same_as(buffer) for buffer in written)]
    return [_stride(load, axis) for load in others]


def _stride(load: Any, axis: Any) -> int | None:
    flat: Any = tirx.const(0, "int64")
    for index, extent in zip(load.indices, load.source.shape, strict=True):
        flat = flat * extent + index
    moved = structural_map(flat, (tvm.ir.Var, lambda variable: axis + 1 if variable.same_as(axis) else variable))
    step = sym.Analyzer().simplify(moved - flat)
    return int(step) if isinstance(step, tirx.IntImm) else None


def _reduce(plan: Any, block: Any, loops: _Loops) -> None:
    """Reductions along rows keep one sum, others a tile of neighbouring sums in a local array."""
    kinds = _kinds(plan, block)
    beside = _strides(plan, block, max(i for i, kind in enumerate(kinds) if kind == _SPATIAL))
    along = _strides(plan, block, max(i for i, kind in enumerate(kinds) if kind == _REDUCTION))
    width = int(plan.get(loops.reduction[-1]).extent)
    tile = _tile(loops.extents[-1])
    if len(plan.get(block).writes) != 1:
        _reduce_rows(plan, block, loops)
    elif tile > 1 and _contiguous(beside):
        _reduce_tiles(plan, block, loops, tile)
    elif width % _LANES == 0 and _contiguous(along) and _attempt(_reduce_lanes, plan.copy(), block, loops):
        _reduce_lanes(plan, block, loops)
    else:
        _reduce_rows(plan, block, loops)


def _tile(extent: int) -> int:
    """The most neighbouring sums to keep at once: whole vectors where that divides the extent."""
    whole = (size for size in (32, 16, _LANES) if extent % size == 0)
    return next(whole, max(size for size in range(1, min(extent, _TILE) + 1) if extent % size == 0))


def _contiguous(strides: list[int | None]) -> bool:
    return 1 in strides and all(stride in (0, 1) for stride in strides)


def _reduce_lanes(plan: Any, block: Any, loops: _Loops) -> None:
    """Each row as one sum per lane, then the sum of the lanes."""
    plan.reorder(*loops.spatial, *loops.reduction)
    lane = plan.split(loops.reduction[-1], [None, _LANES])[1]
    partial = plan.rfactor(lane, len(loops.spatial))
    rows = plan.get_loops(block)[: len(loops.spatial)]
    parallel = plan.fuse(*rows) if len(rows) > 1 else rows[0]
    plan.parallel(parallel)
    plan.set_scope(partial, 0, "local")
    plan.compute_at(partial, parallel)
    within = plan.get_loops(partial)[1:]
    lane = next(loop for loop in within if int(plan.get(loop).extent) == _LANES)
    plan.reorder(*(loop for loop in within if loop is not lane), lane)
    plan.vectorize(lane)
    start = plan.decompose_reduction(partial, plan.get_loops(partial)[1])
    plan.vectorize(plan.get_loops(start)[-1])
    plan.decompose_reduction(block, plan.get_loops(block)[1])


def _reduce_rows(plan: Any, block: Any, loops: _Loops) -> None:
    plan.reorder(*loops.spatial, *loops.reduction)
    parallel = plan.fuse(*loops.spatial) if len(loops.spatial) > 1 else loops.spatial[0]
    plan.parallel(parallel)
    plan.decompose_reduction(block, plan.get_loops(block)[1])


def _reduce_tiles(plan: Any, block: Any, loops: _Loops, tile: int) -> None:
    *outer, inner = loops.spatial
    far, near = plan.split(inner, [None, tile])
    plan.reorder(*outer, far, *loops.reduction, near)
    outer = [*outer, far]
    parallel = plan.fuse(*outer) if len(outer) > 1 else outer[0]
    copy = plan.cache_write(block, 0, "local")
    plan.reverse_compute_at(copy, parallel)
    plan.parallel(parallel)
    if tile % _LANES == 0:
        plan.vectorize(near)
        plan.vectorize(plan.get_loops(copy)[-1])
    start = plan.decompose_reduction(block, plan.get_loops(block)[1])
    if tile % _LANES == 0:
        plan.vectorize(plan.get_loops(start)[-1])
