"""TensorIR functions to one object file of plain C functions, without the packed-argument wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx

from edgeprune.target import Target


def tvm_target(target: Target) -> Any:
    """The TVM target of `target`'s facts."""
    return tvm.target.Target({"kind": "llvm", "mtriple": target.triple, "mcpu": target.cpu})


def _passes() -> list[Any]:
    s, t = s_tir.transform, tirx.transform
    return [
        s.CanonicalizeLoop(),
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        s.CompactBufferAllocation(),
        s.LowerMatchBuffer(),
        s.StmtSimplify(),
        s.LowerOpaqueBlock(),
        t.FlattenBuffer(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        t.VectorizeLoop(True),
        t.StorageRewrite(),
        s.HoistIfThenElse(),
        t.UnrollLoop(),
        t.StmtSimplify(),
        t.RemoveNoOp(),
        s.RewriteUnsafeSelect(),
        t.CommonSubexprElim(),
        t.VerifyMemory(),
        t.LowerIntrin(),
    ]


def compile_module(functions: Mapping[str, Any], target: Target) -> Any:
    """Compile pointer-argument TensorIR functions, by symbol, to a TVM module (object, asm or LLVM text on request).

    Each function becomes `void symbol(pointers..., int32_t begin, int32_t end)`.
    """
    module = tvm.IRModule({symbol: func.with_attr("global_symbol", symbol) for symbol, func in functions.items()})
    built_for = tvm_target(target)
    module = tirx.transform.BindTarget(built_for.with_host(built_for))(module)
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        module = tvm.ir.transform.Sequential(_passes())(module)
        return tvm.get_global_func("target.build.llvm")(module, built_for)


def compile_object(functions: Mapping[str, Any], target: Target, path: Path) -> None:
    """Write the object file of `functions` for `target` to `path`."""
    compile_module(functions, target).write_to_file(str(path), "o")
