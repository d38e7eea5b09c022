"""TensorIR functions to object files of plain C functions, without the packed-argument wrapper."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from edgeprune.cache import Cache, content_key
from edgeprune.target import Target

_KIND = "kernels"
_THREADS = 2
"""Compilations at once: most of one happens under a lock of TVM's."""


def tvm_target(target: Target) -> Any:
    """The TVM target of `target`'s facts."""
    options: dict[str, Any] = {"kind": "llvm", "mtriple": _triple(target), "mcpu": target.cpu}
    if target.features:
        options["mattr"] = list(target.features)
    if target.triple.endswith("eabihf"):
        # TVM takes the soft one for granted: functions of libm would get their numbers where they do not look.
        options["mfloat-abi"] = "hard"
    if target.bare:
        options["vector-width"] = 8 * target.vector_bytes
    return tvm.target.Target(options)


def _triple(target: Target) -> str:
    """The triple in full for Arm cores without floats: else LLVM calls functions that the library there lacks."""
    machine, *_, last = target.triple.split("-")
    return f"{machine}-unknown-none-eabi" if last == "eabi" else target.triple


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


@dataclass(frozen=True)
class Compiled:
    """Object files by name, one a distinct function, and the symbol in them of each function asked for."""

    objects: dict[str, bytes]
    symbols: dict[str, str]


def compile_apart(functions: Mapping[str, Any], target: Target, cache: Cache) -> Compiled:
    """Compile every function to an object of its own, or take it from `cache`; the symbol names the content.

    The same function gives the same bytes, whatever it is called and whatever it is compiled with.
    """
    keys = {symbol: function_key(function, target) for symbol, function in functions.items()}
    wanted = {keys[symbol]: function for symbol, function in functions.items()}

    def made(key: str) -> bytes:
        return cache.made(_KIND, key, lambda: _object(_symbol(key), wanted[key], target))

    with ThreadPoolExecutor(_THREADS) as pool:
        objects = dict(zip(wanted, pool.map(made, wanted), strict=True))
    return Compiled(
        {f"{_symbol(key)}.o": data for key, data in objects.items()},
        {symbol: _symbol(key) for symbol, key in keys.items()},
    )


def function_key(function: Any, target: Target) -> str:
    """The digest of all that the object of `function` depends on: its text, the target, this compiler."""
    unnamed = function.without_attr("global_symbol")
    text, structure = unnamed.script(), str(tvm_ffi.structural_hash(unnamed, map_free_vars=True))
    return content_key(text, structure, target.triple, target.cpu, *target.features, tvm.__version__, _own_source())


def _symbol(key: str) -> str:
    return f"edge_kernel_{key[:24]}"


def _object(symbol: str, function: Any, target: Target) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        path = Path(folder) / "kernel.o"
        compile_object({symbol: function}, target, path)
        return path.read_bytes()


@remembered
def _own_source() -> bytes:
    return Path(__file__).read_bytes()
