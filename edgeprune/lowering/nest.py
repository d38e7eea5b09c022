"""A scheduled TensorIR function cut into its loop nests, each a kernel over raw pointers and a range of units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm_ffi import structural_map, structural_walk

from edgeprune.kernels import vector_math


def _sigmoid(x: Any) -> Any:
    one = vector_math.constant(1.0, x)
    return one / (one + vector_math.exp(vector_math.constant(0.0, x) - x))


_VECTOR_MATH: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": vector_math.exp,
    "tirx.tanh": vector_math.tanh,
    "tirx.erf": vector_math.erf,
    "tirx.log": vector_math.log,
    "tirx.sigmoid": _sigmoid,
}


@dataclass(frozen=True)
class Nest:
    """One kernel: `func` takes the `operands` (TensorIR buffers) as pointers, then begin and end of [0, units)."""

    func: Any
    operands: tuple[Any, ...]
    writes: tuple[Any, ...]
    units: int


def buffer_bytes(buffer: Any) -> int:
    """The size of a TensorIR buffer of constant shape."""
    dtype = tvm.DataType(str(buffer.dtype))
    return math.prod(int(extent) for extent in buffer.shape) * max(1, dtype.bits // 8) * int(dtype.lanes)


def type_bytes(value_type: Any) -> int:
    """The size of a value of Relax tensor type and constant shape."""
    dtype = tvm.DataType(str(value_type.dtype))
    return math.prod(int(extent) for extent in value_type.shape) * max(1, dtype.bits // 8)


def copy_bytes(size: int) -> Any:
    """A kernel (source, destination, begin, end) that copies `size` bytes."""
    source, target = (tirx.Var(name, PointerType(PrimType("int8"))) for name in ("source", "target"))
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    taken, given = (tirx.decl_buffer((size,), "int8", name=name) for name in ("taken", "given"))
    i = tirx.Var("i", "int32")
    copy = tirx.BufferStore(given, tirx.BufferLoad(taken, [i]), [i])
    loop = tirx.For(i, 0, size, tirx.ForKind.SERIAL, copy)
    body = tirx.SeqStmt([tirx.DeclBuffer(taken, data=source), tirx.DeclBuffer(given, data=target), loop])
    return tirx.PrimFunc([source, target, begin, end], body).with_attrs({"tirx.noalias": True, "s_tir": True})


def split_nests(func: Any) -> list[Nest]:
    """The top-level loop nests of `func`, in order.

    What one nest leaves for another passes through buffers that appear among the operands without being
    parameters of `func`; buffers of scope "local" stay inside their nest. A nest whose outermost loop is parallel
    has one unit for each of its iterations, any other has one unit.
    """
    body, allocated = func.body, []
    if isinstance(body, s_tir.SBlockRealize):
        body, allocated = body.block.body, list(body.block.alloc_buffers)
    local = [buffer for buffer in allocated if buffer.scope() == "local"]
    shared = [*func.params, *(buffer for buffer in allocated if buffer.scope() != "local")]
    statements = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    return [_nest(statement, shared, local) for statement in statements]


def _accessed(statement: Any) -> tuple[list[Any], list[Any]]:
    reads: list[Any] = []
    writes: list[Any] = []
    structural_walk(
        statement,
        (
            (tvm.ir.expr.TensorLoad, lambda node: reads.append(node.source)),
            (tirx.BufferStore, lambda node: writes.append(node.buffer)),
        ),
    )
    return reads, writes


def _among(buffer: Any, buffers: list[Any]) -> bool:
    return any(buffer.same_as(other) for other in buffers)


def _nest(statement: Any, shared: list[Any], local: list[Any]) -> Nest:
    reads, writes = _accessed(statement)
    operands = [buffer for buffer in shared if _among(buffer, reads) or _among(buffer, writes)]
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    units, statement = _over_range(statement, begin, end)
    statement = structural_map(statement, (tirx.For, _serial))
    pointers = [tirx.Var(f"p{i}", PointerType(PrimType(str(buffer.dtype)))) for i, buffer in enumerate(operands)]
    declared = [tirx.DeclBuffer(buffer, data=pointer) for buffer, pointer in zip(operands, pointers, strict=True)]
    inside = [buffer for buffer in local if _among(buffer, reads) or _among(buffer, writes)]
    block = s_tir.SBlock([], [], [], "root", statement, alloc_buffers=inside)
    body = tirx.SeqStmt([*declared, s_tir.SBlockRealize([], True, block)])
    func = tirx.PrimFunc([*pointers, begin, end], body).with_attrs({"tirx.noalias": True, "s_tir": True})
    written = tuple(buffer for buffer in operands if _among(buffer, writes))
    return Nest(_with_vector_math(func), tuple(operands), written, units)


def _over_range(statement: Any, begin: Any, end: Any) -> tuple[int, Any]:
    if not isinstance(statement, tirx.For) or statement.kind != tirx.ForKind.PARALLEL:
        return 1, statement
    kind = str(statement.loop_var.ty)
    first = tirx.Cast(kind, begin) if kind != "int32" else begin
    count = tirx.Cast(kind, end - begin) if kind != "int32" else end - begin
    loop = tirx.For(statement.loop_var, first, count, tirx.ForKind.SERIAL, statement.body)
    return int(statement.extent), loop


def _serial(loop: Any) -> Any:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)


def _with_vector_math(func: Any) -> Any:
    def replaced(call: Any) -> Any:
        build = _VECTOR_MATH.get(getattr(call.op, "name", ""))
        return build(call.args[0]) if build and str(call.ty).startswith("float32") else call

    return structural_map(func, (tvm.ir.Call, replaced))
