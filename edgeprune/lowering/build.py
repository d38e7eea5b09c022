"""A plan to the members of a package: the library, its C source and header, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.cache import Cache
from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.constants import pack_constants
from edgeprune.lowering.link import build_library, runtime_files
from edgeprune.lowering.plan import Call, Layer, Plan
from edgeprune.progress import Progress, silent
from edgeprune.target import Target

HEADER = "edge.h"


@dataclass(frozen=True)
class Built:
    """A compiled program; sizes in bytes. `ram_bytes` is the arena: inputs and outputs are the caller's.

    `weights_bytes` is what the library stores of its constants, `expanded_bytes` the memory that the coded ones of
    them take from the first context on.
    """

    library: bytes
    sources: dict[str, str]
    layers: tuple[Layer, ...]
    weights_bytes: int
    code_bytes: int
    ram_bytes: int
    expanded_bytes: int = 0


def build(plan: Plan, target: Target, progress: Progress = silent, cache: Cache | None = None) -> Built:
    """Compile and link `plan`; kernels that were compiled before come from `cache`, by default the user's.

    Raises EdgepruneError (link-failed).
    """
    progress("compiling", 0, 1, f"{len(plan.functions)} kernels")
    arena = allocate(plan)
    packed = pack_constants(plan)
    program = emit_source(plan, arena, packed, target)
    library = build_library(plan.functions, program, packed.blob, target, cache)
    progress("compiling", 1, 1, "")
    return Built(
        library=library.so,
        sources={**runtime_files(), **program},
        layers=tuple(step.layer for step in plan.steps if isinstance(step, Call)),
        weights_bytes=len(packed.blob),
        code_bytes=library.code_bytes,
        ram_bytes=arena.size,
        expanded_bytes=packed.expanded_bytes,
    )
